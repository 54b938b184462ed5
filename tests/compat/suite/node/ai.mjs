// What a caller of Vercel's AI SDK sees, by each of its providers; `ecosystem/current/check_ai_sdk.py` says what it should be.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, embedMany, generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import { z } from "zod";

const weather = z.object({ city: z.enum(["Paris", "Rome", "Oslo"]), degrees: z.union([z.literal(0), z.literal(10), z.literal(20)]) });
const city = z.object({ city: z.enum(["Paris", "Rome", "Oslo"]) });
const made = {
  compatible: ({ baseURL, apiKey }) =>
    createOpenAICompatible({ name: "conformance", baseURL, apiKey, includeUsage: true, supportsStructuredOutputs: true }),
  openai: ({ baseURL, apiKey }) => createOpenAI({ baseURL, apiKey }).chat,
  responses: ({ baseURL, apiKey }) => createOpenAI({ baseURL, apiKey }).responses,
  anthropic: ({ baseURL, apiKey }) => createAnthropic({ baseURL, apiKey }),
};

function asked(options, rest) {
  const model = made[options.provider](options)(options.model);
  return { model, maxRetries: 0, temperature: 0, maxOutputTokens: 64, system: "Be brief.", ...rest };
}

export async function text(options) {
  const answer = await generateText(asked(options, { prompt: "What is the capital of France?" }));
  return { text: answer.text, finish: answer.finishReason, usage: answer.usage, warnings: (answer.warnings ?? []).length };
}

export async function stream(options) {
  const seen = { text: "", pieces: 0, errors: [] };
  const onError = ({ error }) => seen.errors.push(String(error));
  const answer = streamText(asked(options, { prompt: "What is the capital of France?", onError }));
  for await (const piece of answer.textStream) {
    seen.text += piece;
    seen.pieces += 1;
  }
  return { ...seen, whole: await answer.text, finish: await answer.finishReason, usage: await answer.usage };
}

function withTool(options, rest) {
  const calls = [];
  const get_weather = tool({
    description: "The weather in a city, now.",
    inputSchema: city,
    execute: async ({ city }) => {
      calls.push(city);
      return `It is sunny in ${city}.`;
    },
  });
  // told to call in the first step, free in the next
  const prepareStep = ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" });
  const prompt = "What is the weather in Paris? Use the tool.";
  return [calls, asked(options, { prompt, tools: { get_weather }, stopWhen: stepCountIs(2), prepareStep, ...rest })];
}

export async function tools(options) {
  const [calls, question] = withTool(options);
  const answer = await generateText(question);
  return { calls, steps: answer.steps.map((step) => step.finishReason), text: answer.text };
}

export async function toolsStreamed(options) {
  const errors = [];
  const [calls, question] = withTool(options, { onError: ({ error }) => errors.push(String(error)) });
  const answer = streamText(question);
  const kinds = [];
  for await (const part of answer.fullStream) kinds.push(part.type);
  return { calls, errors, kinds: [...new Set(kinds)], steps: (await answer.steps).map((step) => step.finishReason) };
}

export async function object(options) {
  const answer = await generateObject(asked(options, { prompt: "It is 20 degrees in Rome.", schema: weather }));
  return { object: answer.object, usage: answer.usage };
}

export async function objectStreamed(options) {
  const errors = [];
  const onError = ({ error }) => errors.push(String(error));
  const answer = streamObject(asked(options, { prompt: "It is 20 degrees in Rome.", schema: weather, onError }));
  let pieces = 0;
  for await (const _ of answer.partialObjectStream) pieces += 1;
  return { object: await answer.object, pieces, errors };
}

export async function vectors(options) {
  const provider = made.compatible(options);
  const model = (provider.embeddingModel ?? provider.textEmbeddingModel)(options.embeddingModel);
  const many = await embedMany({ model, values: ["a cat", "a dog", "a cat"], maxRetries: 0 });
  const one = await embed({ model, value: "a dog", maxRetries: 0 });
  return { lengths: many.embeddings.map((vector) => vector.length), first: many.embeddings[0].slice(0, 8),
           last: many.embeddings[2].slice(0, 8), dog: many.embeddings[1].slice(0, 8), one: one.embedding.slice(0, 8) };
}

export async function unknownModel(options) {
  try {
    await generateText(asked({ ...options, model: "no-such-model-anywhere" }, { prompt: "Hi" }));
  } catch (e) {
    return { name: e.name, status: e.statusCode ?? null, message: e.message, retryable: e.isRetryable ?? null };
  }
  return null;
}
