"""The openai Python package, unchanged, against the real model."""

from __future__ import annotations

import asyncio

import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from handlers.text_modes import TEXT_MODES

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the capital of France?"}]


def stream(client: openai.OpenAI, model: str, **fields: object) -> list[ChatCompletionChunk]:
    asked = {"messages": QUESTION, "max_tokens": 16, "temperature": 0, **fields}
    return list(client.chat.completions.create(model=model, stream=True, **asked))


def text_of(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    return "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices if c.index == index)


def test_a_whole_answer_says_paris(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=16, temperature=0)
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id


def test_a_stream_has_one_role_one_id_one_finish_and_the_whole_text(client: openai.OpenAI, model: str) -> None:
    chunks = stream(client, model)
    whole = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=16, temperature=0)
    assert text_of(chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
    assert all(chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)


def test_usage_is_the_last_chunk_when_asked(client: openai.OpenAI, model: str) -> None:
    chunks = stream(client, model, stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_max_completion_tokens_beats_max_tokens_and_says_length(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=50, max_completion_tokens=2)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2


def test_a_stop_string_ends_the_answer_and_is_never_shown(client: openai.OpenAI, model: str) -> None:
    chunks = stream(client, model, stop=["Paris"])
    assert text_of(chunks) == "The capital of France is "
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]


@pytest.mark.usefixtures("exact_numbers")
def test_a_seed_repeats_the_answer_and_another_changes_it(client: openai.OpenAI, model: str) -> None:
    def told(seed: int) -> str | None:
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Tell me a story."}]
        answer = client.chat.completions.create(model=model, messages=messages, max_tokens=24, temperature=1.0, seed=seed)
        return answer.choices[0].message.content

    assert told(1) == told(1)
    assert told(1) != told(2)


def test_n_choices_are_streamed_under_their_own_index(client: openai.OpenAI, model: str) -> None:
    chunks = stream(client, model, n=2, temperature=1.0, seed=3)
    finished = [c.index for chunk in chunks for c in chunk.choices if c.finish_reason]
    assert sorted(finished) == [0, 1]
    assert text_of(chunks, 0)
    assert text_of(chunks, 1)


def test_logprobs_cover_every_token_with_as_many_alternatives_as_asked(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, max_tokens=5, temperature=0, logprobs=True, top_logprobs=3
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 5
    assert "".join(entry.token for entry in logprobs.content) == answer.choices[0].message.content
    for entry in logprobs.content:
        assert len(entry.top_logprobs) == 3
        assert entry.logprob == pytest.approx(max(top.logprob for top in entry.top_logprobs))


def test_logit_bias_forbids_a_token(client: openai.OpenAI, model: str) -> None:
    plain = client.chat.completions.create(
        model=model, messages=QUESTION, max_tokens=1, temperature=0, logprobs=True, top_logprobs=0
    )
    content = client.completions.create(model=model, prompt="Paris", max_tokens=1, temperature=0, logit_bias={"0": -100})
    assert content.choices[0].text != "<|endoftext|>"
    assert plain.choices[0].message.content == "The"


def test_legacy_completions_take_strings_and_lists_and_echo(client: openai.OpenAI, model: str) -> None:
    prompt = "One, two, three,"
    one = client.completions.create(model=model, prompt=prompt, max_tokens=6, temperature=0, echo=True)
    assert one.choices[0].text.startswith(prompt + " four")
    two = client.completions.create(model=model, prompt=[prompt, "A, B, C,"], max_tokens=6, temperature=0)
    assert [choice.index for choice in two.choices] == [0, 1]
    assert "four" in two.choices[0].text
    assert "D" in two.choices[1].text


def test_legacy_completions_stream(client: openai.OpenAI, model: str) -> None:
    events = list(client.completions.create(model=model, prompt="One, two,", max_tokens=8, temperature=0, stream=True))
    assert "three" in "".join(event.choices[0].text for event in events if event.choices)
    assert events[-1].choices[0].finish_reason == "length"


def test_messages_come_in_every_form_that_clients_send(client: openai.OpenAI, model: str) -> None:
    messages = [
        {"role": "developer", "content": "Answer briefly."},
        {"role": "user", "content": [{"type": "text", "text": "What is the weather?"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "sunny"}]},
        {"role": "assistant", "content": "It is sunny.", "tool_calls": None, "reasoning_content": "the tool said so"},
        {"role": "system", "content": "Speak English."},
        {"role": "user", "content": "Thanks! Say hello."},
    ]
    answer = client.chat.completions.create(model=model, messages=messages, max_tokens=8)  # type: ignore[arg-type]
    assert answer.choices[0].message.content


def test_null_means_unset_and_unknown_fields_are_ignored(client: openai.OpenAI, model: str) -> None:
    extra = {"temperature": None, "stop": None, "n": None, "seed": None, "tools": None, "some_new_field": {"a": [1]}}
    answer = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=4, extra_body=extra)
    assert answer.choices[0].message.content


@pytest.mark.parametrize("mode", TEXT_MODES)
def test_every_mode_answers(client: openai.OpenAI, model: str, mode: str) -> None:
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "The capital of France is"}]
    answer = client.chat.completions.create(model=f"{model}:{mode}", messages=messages, max_tokens=12, temperature=0)
    assert any(letter.isalpha() for letter in answer.choices[0].message.content or "")
    assert answer.model == f"{model}:{mode}"


def test_a_mode_is_a_field_or_a_suffix_of_the_model(client: openai.OpenAI, model: str) -> None:
    field = client.chat.completions.create(
        model=model, messages=QUESTION, max_tokens=12, temperature=0, extra_body={"mode": "complete"}
    )
    suffix = client.chat.completions.create(model=f"{model}:complete", messages=QUESTION, max_tokens=12, temperature=0)
    plain = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=12, temperature=0)
    assert suffix.choices[0].message.content == field.choices[0].message.content
    assert suffix.choices[0].message.content != plain.choices[0].message.content
    assert suffix.model == f"{model}:complete"


def test_an_alias_answers_under_its_own_name(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION, max_tokens=16, temperature=0)
    assert answer.model == "gpt-4o-mini"
    assert "Paris" in (answer.choices[0].message.content or "")


def test_an_unknown_model_is_not_found_and_near_names_are_shown(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="smollm2-135m-instrukt", messages=QUESTION)
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert "smollm2-135m-instruct" in caught.value.message
    assert caught.value.request_id


def test_the_context_is_a_limit_that_the_error_explains(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=QUESTION, max_tokens=100_000)
    assert caught.value.code == "context_length_exceeded"
    assert "100000" in caught.value.message


def test_a_failure_in_the_middle_of_a_stream_is_raised(client: openai.OpenAI) -> None:
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "[[fail_after=2]] one two three"}]
    events = client.chat.completions.create(model="echo", messages=messages, stream=True)
    assert next(events).choices
    with pytest.raises(openai.APIError) as caught:
        list(events)
    assert caught.value.message


def test_the_async_client_streams_too(server_url: str, model: str) -> None:
    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=server_url, api_key="none", max_retries=0) as client:
            events = await client.chat.completions.create(
                model=model, messages=QUESTION, max_tokens=16, temperature=0, stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in events])

    assert "Paris" in asyncio.run(ask())
