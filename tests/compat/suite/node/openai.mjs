// What a caller of OpenAI's JavaScript SDK sees; `checks/check_node.py` says what it should be.
import OpenAI from "openai";

const messages = [{ role: "user", content: "What is the capital of France? Answer in one sentence." }];
const city = {
  type: "object",
  properties: { city: { type: "string", maxLength: 12 } },
  required: ["city"],
  additionalProperties: false,
};
const weather = { type: "function", function: { name: "get_weather", parameters: city } };
const made = ({ baseURL, apiKey }) => new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 50_000 });
const asked = ({ model }) => ({ model, messages, max_tokens: 16, temperature: 0 });

async function failure(call) {
  try {
    await call();
  } catch (e) {
    return { name: e.constructor.name, status: e.status ?? null, message: e.message, code: e.code ?? null, requestID: e.requestID ?? null };
  }
  return null;
}

export async function whole(options) {
  const { data, request_id } = await made(options).chat.completions.create(asked(options)).withResponse();
  return { text: data.choices[0].message.content, finish: data.choices[0].finish_reason, usage: data.usage, requestID: request_id };
}

export async function stream(options) {
  const stream = await made(options).chat.completions.create({ ...asked(options), stream: true, stream_options: { include_usage: true } });
  const seen = { text: "", finishes: [], usage: null, lastChoices: null };
  for await (const chunk of stream) {
    for (const choice of chunk.choices) {
      seen.text += choice.delta.content ?? "";
      if (choice.finish_reason) seen.finishes.push(choice.finish_reason);
    }
    if (chunk.usage) [seen.usage, seen.lastChoices] = [chunk.usage, chunk.choices];
  }
  return seen;
}

export async function helper(options) {
  const runner = made(options).chat.completions.stream(asked(options));
  return { text: await runner.finalContent(), finish: (await runner.finalChatCompletion()).choices[0].finish_reason };
}

export async function runTools(options) {
  const called = [];
  const tool = { ...weather, function: { ...weather.function, parse: JSON.parse, function: (args) => (called.push(args), "sunny") } };
  const runner = made(options).chat.completions.runTools(
    { ...asked(options), max_tokens: 64, tools: [tool], tool_choice: { type: "function", function: { name: "get_weather" } } },
    { maxChatCompletions: 2 });
  await runner.done();
  return { called, roles: runner.messages.map((message) => message.role) };
}

export async function unknownModel(options) {
  return failure(() => made(options).chat.completions.create({ ...asked(options), model: "no-such-model-anywhere" }));
}

export async function badField(options) {
  return failure(() => made(options).chat.completions.create({ ...asked(options), temperature: "hot" }));
}

export async function noPath(options) {
  return failure(() => made(options).get("/no/such/path"));
}

export async function aborted(options) {
  const client = made(options);
  for (let i = 0; i < 4; i++) {
    const stream = await client.chat.completions.create({ ...asked(options), max_tokens: 1500, stream: true });
    for await (const _ of stream) break;
  }
  const answer = await client.chat.completions.create({ ...asked(options), max_tokens: 2 }, { timeout: 12_000 });
  return { finish: answer.choices[0].finish_reason };
}

export async function models(options) {
  const ids = [];
  for await (const model of made(options).models.list()) ids.push(model.id);
  return { ids, one: (await made(options).models.retrieve(options.model)).id };
}

export async function embeddings(options) {
  const ask = async (fields) => {
    const answer = await made(options).embeddings.create({ model: options.embeddingModel, input: "The cat sits on the mat.", ...fields });
    return answer.data[0].embedding;
  };
  return { byDefault: await ask({}), asFloats: await ask({ encoding_format: "float" }) };
}

export async function responses(options) {
  const answer = await made(options).responses.create({ model: options.model, input: "Hi", max_output_tokens: 16 });
  return { text: answer.output_text, status: answer.status };
}

export async function responsesStream(options) {
  const seen = [];
  const input = "What is two and two? Answer with one number.";
  const stream = made(options).responses.stream({ model: options.model, input, max_output_tokens: 200, temperature: 0 });
  for await (const event of stream) seen.push(event.type);
  return { first: seen[0], last: seen.at(-1), text: (await stream.finalResponse()).output_text };
}
