// Drives the openai npm package against a server; prints one JSON line of what a caller saw.
// Usage: node client.mjs BASE_URL MODEL SCENARIO [RECORDING]
import { createReadStream } from "node:fs";
import OpenAI, { toFile } from "openai";

const [baseURL, model, scenario, recording] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is the capital of France?" }];
const chat = { model, messages, max_tokens: 16, temperature: 0 };

async function collect(stream) {
  const seen = { text: "", ids: new Set(), finishes: [], roles: [], usage: [], chunks: 0 };
  for await (const chunk of stream) {
    seen.chunks += 1;
    seen.ids.add(chunk.id);
    if (chunk.usage) seen.usage.push({ choices: chunk.choices, total: chunk.usage.total_tokens });
    for (const choice of chunk.choices) {
      if (choice.delta.role) seen.roles.push(choice.delta.role);
      seen.text += choice.delta.content ?? "";
      if (choice.finish_reason) seen.finishes.push(choice.finish_reason);
    }
  }
  return { ...seen, ids: seen.ids.size };
}

async function failure(call) {
  try {
    return { raised: false, value: await call() };
  } catch (e) {
    return { raised: true, name: e.constructor.name, status: e.status ?? null, message: e.message, code: e.code ?? null,
             param: e.param ?? null, type: e.type ?? null, requestID: e.requestID ?? null };
  }
}

const scenarios = {
  whole: async () => {
    const answer = await client.chat.completions.create(chat);
    return { text: answer.choices[0].message.content, finish: answer.choices[0].finish_reason, model: answer.model,
             usage: answer.usage, requestID: answer._request_id };
  },
  stream: async () => collect(await client.chat.completions.create({ ...chat, stream: true })),
  streamUsage: async () =>
    collect(await client.chat.completions.create({ ...chat, stream: true, stream_options: { include_usage: true } })),
  completion: async () => {
    const answer = await client.completions.create({ model, prompt: "One, two, three,", max_tokens: 8, temperature: 0 });
    return { text: answer.choices[0].text, finish: answer.choices[0].finish_reason };
  },
  models: async () => {
    const ids = [];
    for await (const entry of client.models.list()) ids.push(entry.id);
    return { ids, one: await client.models.retrieve(model) };
  },
  tools: async () => {
    const tool = (name) => ({ type: "function", function: { name, parameters: { type: "object" } } });
    const call = (name, args) => `<tool_call>${JSON.stringify({ name, arguments: args })}</tool_call>`;
    const content = call("get_weather", { city: "Paris {é}", unit: "celsius" }) + call("now", {});
    const body = { model, messages: [{ role: "user", content }], tools: [tool("get_weather"), tool("now")] };
    const whole = (await client.chat.completions.create(body)).choices[0];
    const streamed = (await client.chat.completions.stream(body).finalChatCompletion()).choices[0];
    const calls = (choice) => choice.message.tool_calls.map((c) => ({ name: c.function.name, arguments: c.function.arguments }));
    return { whole: calls(whole), streamed: calls(streamed), finish: [whole.finish_reason, streamed.finish_reason] };
  },
  speech: async () => {
    const body = { model, voice: "alloy", input: "One two three four five six seven eight nine ten.", response_format: "opus" };
    const answer = await client.audio.speech.create(body);
    const sound = Buffer.from(await answer.arrayBuffer());
    let streamed = 0;
    for await (const piece of (await client.audio.speech.create(body)).body) streamed += piece.length;
    const bad = await failure(() => client.audio.speech.create({ ...body, speed: 9 }));
    return { type: answer.headers.get("content-type"), bytes: sound.length, streamed, sound: sound.toString("base64"), bad };
  },
  video: async () => {
    const body = { model, prompt: "sea", seconds: "1", size: "64x48", fps: 6 };
    const order = await client.videos.create(body);
    let video = order;
    while (video.status === "queued" || video.status === "in_progress") {
      await new Promise((resolve) => setTimeout(resolve, 100));
      video = await client.videos.retrieve(order.id);
    }
    const content = await client.videos.downloadContent(order.id);
    const ids = [];
    for await (const entry of client.videos.list({ limit: 1 })) ids.push(entry.id);
    const file = Buffer.from(await content.arrayBuffer()).toString("base64");
    const bad = await failure(() => client.videos.create({ ...body, size: "1x1" }));
    const reference = { image_url: "data:image/png;base64,AAAA" };
    const broken = await failure(() => client.videos.create({ ...body, input_reference: reference }));
    const gone = await client.videos.delete(order.id);
    return { order, video, type: content.headers.get("content-type"), file, ids, bad, broken, gone };
  },
  transcription: async () => {
    const hear = (more) => client.audio.transcriptions.create({ model, file: createReadStream(recording), ...more });
    const verbose = await hear({ response_format: "verbose_json", timestamp_granularities: ["word", "segment"] });
    const events = { types: [], text: "" };
    for await (const event of await hear({ stream: true })) {
      events.types.push(event.type);
      events.text += event.delta ?? "";
    }
    const bad = await failure(() => hear({ response_format: "diarized_json" }));
    return { json: await hear({}), srt: await hear({ response_format: "srt" }), verbose, events, bad };
  },
  pictures: async () => {
    const body = { model, prompt: "a red circle", size: "64x32" };
    const made = (await client.images.generate({ ...body, n: 2 })).data.map((picture) => picture.b64_json);
    const types = [];
    for await (const event of await client.images.generate({ ...body, stream: true, partial_images: 2 })) types.push(event.type);
    const image = await toFile(Buffer.from(made[0], "base64"), "circle.png", { type: "image/png" });
    const edited = (await client.images.edit({ ...body, image })).data[0].b64_json;
    const bad = await failure(() => client.images.generate({ ...body, size: "huge" }));
    return { made, types, edited, bad };
  },
  embedding: async () => {
    const answer = await client.embeddings.create({ model, input: "This is an example sentence" });
    const vector = answer.data[0].embedding;
    const bad = await failure(() => client.embeddings.create({ model, input: "" }));
    return { first: vector.slice(0, 4), length: vector.length, tokens: answer.usage.total_tokens, bad };
  },
  unknownModel: () => failure(() => client.chat.completions.create({ ...chat, model: "no-such-model" })),
  badField: () => failure(() => client.chat.completions.create({ ...chat, temperature: 9 })),
  streamFailure: () => {
    const failing = [{ role: "user", content: "[[fail_after=2]] one two three" }];
    return failure(async () => collect(await client.chat.completions.create({ ...chat, messages: failing, stream: true })));
  },
  abort: async () => {
    const stream = await client.chat.completions.create({ ...chat, max_tokens: 400, stream: true });
    let chunks = 0;
    for await (const _ of stream) if (++chunks === 3) break;
    return { chunks };
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
