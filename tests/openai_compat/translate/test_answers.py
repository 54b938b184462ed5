"""Whole answers, against the SDK's types, taken strictly, and against the published schemas."""

import json
import math

import msgspec
import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion

from handlers.types import TextChoice, TextResult, TokenLogprob, ToolCall, TopLogprob, Usage
from openai_compat.translate import chat, completions

USAGE = Usage(prompt_tokens=5, completion_tokens=3, cached_tokens=4, reasoning_tokens=1)
TOKENS = (
    TokenLogprob(
        token=" é",
        logprob=-0.5,
        token_bytes=" é".encode(),
        top=(TopLogprob(token=" e", logprob=-math.inf, token_bytes=b" e"),),
        text_offset=4,
    ),
    TokenLogprob(token="�", logprob=-math.inf, token_bytes=b"\xf0\x9f", text_offset=6),
)
CALLS = (
    ToolCall(id="call_1", name="weather", arguments='{"city": "Zürich"}'),
    ToolCall(id="call_2", name="now", arguments="{}"),
)


def result(*choices: TextChoice) -> TextResult:
    return TextResult(choices=choices, usage=USAGE)


RESULTS = {
    "one choice": result(TextChoice(index=0, text='Hi "there"\n', finish_reason="stop")),
    "two choices": result(
        TextChoice(index=0, text="", finish_reason="length"), TextChoice(index=1, text="x", finish_reason="content_filter")
    ),
    "logprobs": result(TextChoice(index=0, text=" é�", finish_reason="stop", logprobs=TOKENS)),
    "calls": result(TextChoice(index=0, text="", finish_reason="tool_calls", tool_calls=CALLS)),
    "reasoning, words and calls": result(
        TextChoice(index=0, text="Let me see.", finish_reason="tool_calls", reasoning="Hm.", tool_calls=CALLS[:1])
    ),
    "a stop string": result(TextChoice(index=0, text="x", finish_reason="stop", stop="END")),
    "no tokens": result(TextChoice(index=0, text="", finish_reason="stop", logprobs=())),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_chat_answer_is_what_strict_clients_want(name, meta, problems):
    data = json.loads(msgspec.json.encode(chat.to_response(RESULTS[name], meta)))
    ChatCompletion.model_validate(data, strict=True)
    assert problems(data, "CreateChatCompletionResponse") == []


@pytest.mark.parametrize("name", RESULTS)
def test_a_completion_is_what_strict_clients_want(name, meta, problems):
    data = json.loads(msgspec.json.encode(completions.to_response(RESULTS[name], meta)))
    Completion.model_validate(data, strict=True)
    assert problems(data, "CreateCompletionResponse") == []


def test_the_checker_of_published_schemas_finds_faults(meta, problems):
    data = json.loads(msgspec.json.encode(chat.to_response(RESULTS["one choice"], meta)))
    del data["choices"][0]["logprobs"]
    data["choices"][0]["finish_reason"] = "done"
    data["created"] = "now"
    assert len(problems(data, "CreateChatCompletionResponse")) == 3


def test_a_chat_answer_says_everything_once(meta):
    data = json.loads(msgspec.json.encode(chat.to_response(RESULTS["one choice"], meta)))
    assert data == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": 'asked-for "ü"',
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": 'Hi "there"\n', "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 3,
            "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 1,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
    }


def test_the_probabilities_of_a_chat_hold_bytes_and_finite_numbers(meta):
    data = json.loads(msgspec.json.encode(chat.to_response(RESULTS["logprobs"], meta)))
    assert data["choices"][0]["logprobs"] == {
        "content": [
            {
                "token": " é",
                "logprob": -0.5,
                "bytes": [32, 195, 169],
                "top_logprobs": [{"token": " e", "logprob": -9999.0, "bytes": [32, 101]}],
            },
            {"token": "�", "logprob": -9999.0, "bytes": [240, 159], "top_logprobs": []},
        ],
        "refusal": None,
    }


def test_the_probabilities_of_a_completion_are_parallel_lists(meta):
    data = json.loads(msgspec.json.encode(completions.to_response(RESULTS["logprobs"], meta)))
    assert data["choices"][0]["logprobs"] == {
        "tokens": [" é", "�"],
        "token_logprobs": [-0.5, -9999.0],
        "top_logprobs": [{" é": -0.5, " e": -9999.0}, {"�": -9999.0}],
        "text_offset": [4, 6],
    }


def test_the_first_token_of_an_echoed_prompt_has_no_probability(meta):
    first = TokenLogprob(token="Once", logprob=None, token_bytes=b"Once")
    choice = TextChoice(index=0, text="Once", finish_reason="length", logprobs=(first,))
    logprobs = completions.to_response(result(choice), meta).choices[0].logprobs
    assert (logprobs.token_logprobs, logprobs.top_logprobs) == ([None], [None])


def test_a_completion_knows_no_tools(meta):
    choice = TextChoice(index=0, text="", finish_reason="tool_calls")
    assert completions.to_response(result(choice), meta).choices[0].finish_reason == "stop"


def test_an_answer_of_calls_alone_has_no_content(meta):
    data = json.loads(msgspec.json.encode(chat.to_response(RESULTS["calls"], meta)))
    assert data["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Zürich"}'}},
            {"id": "call_2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
        ],
    }


def test_reasoning_has_both_of_its_names(meta):
    message = json.loads(msgspec.json.encode(chat.to_response(RESULTS["reasoning, words and calls"], meta)))["choices"][0][
        "message"
    ]
    assert (message["content"], message["reasoning_content"], message["reasoning"]) == ("Let me see.", "Hm.", "Hm.")
    assert len(message["tool_calls"]) == 1


def test_the_stop_string_that_ended_a_chat_is_told_whole_and_streamed_and_only_then(meta):
    stopped = RESULTS["a stop string"]
    [choice] = json.loads(msgspec.json.encode(chat.to_response(stopped, meta)))["choices"]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "END")
    events = chat.ChatStream(meta, include_usage=False).finish(stopped).split(b"\n\n")
    ends = [event for event in map(bytes.decode, events) if '"finish_reason":"stop"' in event]
    assert [json.loads(end[6:])["choices"][0]["stop_reason"] for end in ends] == ["END"]
    plain = RESULTS["one choice"]
    assert b"stop_reason" not in msgspec.json.encode(chat.to_response(plain, meta))
    assert b"stop_reason" not in chat.ChatStream(meta, include_usage=False).finish(plain)
