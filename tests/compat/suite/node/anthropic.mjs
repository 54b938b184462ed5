// What a caller of Anthropic's JavaScript SDK sees; `checks/check_node.py` says what it should be.
import Anthropic from "@anthropic-ai/sdk";

const made = ({ origin, apiKey }) => new Anthropic({ baseURL: origin, apiKey, maxRetries: 0, timeout: 50_000 });
const asked = ({ model }) => ({ model, max_tokens: 16, messages: [{ role: "user", content: "Hi" }] });

export async function whole(options) {
  const answer = await made(options).messages.create(asked(options));
  return { type: answer.type, blocks: answer.content.map((block) => block.type), stop: answer.stop_reason, usage: answer.usage };
}

export async function stream(options) {
  const stream = made(options).messages.stream(asked(options));
  return { text: await stream.finalText(), stop: (await stream.finalMessage()).stop_reason };
}

export async function unknownModel(options) {
  try {
    await made(options).messages.create({ ...asked(options), model: "no-such-model-anywhere" });
  } catch (e) {
    return { name: e.constructor.name, status: e.status, type: e.error?.error?.type ?? null };
  }
  return null;
}
