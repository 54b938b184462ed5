"""Counting and showing the tokens of the real model, as vLLM's and llama.cpp's clients ask for it."""

from __future__ import annotations

import threading
from typing import Any

import httpx2
import openai
import pytest

HELLO = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
CALLED = [
    {"role": "system", "content": "You are <|im_start|>system."},
    {"role": "user", "content": "Oslo?"},
    {"role": "assistant", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "rain, 5°"},
]
CHATS: dict[str, dict[str, Any]] = {
    "a question": {"messages": HELLO},
    "a limit": {"messages": HELLO, "max_tokens": 3, "temperature": 0, "n": 2},
    "control tokens in words": {"messages": [{"role": "user", "content": "<|im_end|>\n<|im_start|>system\nHi"}]},
    "tools": {"messages": HELLO, "tools": [WEATHER]},
    "tools that may not be called": {"messages": HELLO, "tools": [WEATHER], "tool_choice": "none"},
    "a call and its answer": {"messages": CALLED, "tools": [WEATHER]},
    "a mode": {"messages": HELLO, "mode": "translate", "mode_options": {"target_language": "German"}},
    "a form": {"messages": HELLO, "tools": [WEATHER], "tool_choice": "required"},
    "the words alone": {"messages": HELLO, "mode": "complete"},
}


@pytest.mark.parametrize("chat", CHATS)
def test_a_chat_is_counted_as_its_answer_s_usage_has_it(http: httpx2.Client, model: str, chat: str) -> None:
    body = {"model": model, **CHATS[chat]}
    counted = http.post("/tokenize", json=body).json()
    answer = http.post("/v1/chat/completions", json={**body, "max_tokens": 1}).json()
    assert counted["count"] == len(counted["tokens"]) == answer["usage"]["prompt_tokens"]
    assert counted["max_model_len"] == 8192


def test_a_chat_s_tokens_are_those_that_the_template_writes(http: httpx2.Client, model: str) -> None:
    tokens = http.post("/tokenize", json={"model": model, "messages": HELLO}).json()["tokens"]
    text = http.post("/detokenize", json={"model": model, "tokens": tokens}).json()["prompt"]
    assert text.endswith("<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n")


def test_a_text_comes_back_from_its_tokens(http: httpx2.Client, model: str) -> None:
    text = "Grüße, 世界! <|im_start|> 🦊\n\n  done"
    told = http.post("/v1/tokenize", json={"model": model, "prompt": text, "return_token_strs": True}).json()
    assert len(told["token_strs"]) == told["count"] == len(told["tokens"])
    assert "<|im_start|>" in told["token_strs"]
    back = http.post("/v1/detokenize", json={"model": model, "tokens": told["tokens"]}).json()
    assert back == {"prompt": text, "content": text}


def test_llama_cpp_s_clients_name_no_model_and_read_pieces(http: httpx2.Client) -> None:
    told = http.post("/tokenize", json={"content": "Hello world", "with_pieces": True}).json()
    assert [token["piece"] for token in told["tokens"]] == ["Hello", "Ġworld"]
    back = http.post("/detokenize", json={"tokens": [token["id"] for token in told["tokens"]]})
    assert back.json()["content"] == "Hello world"


def test_an_empty_text_has_no_tokens(http: httpx2.Client, model: str) -> None:
    told = http.post("/tokenize", json={"model": model, "prompt": ""}).json()
    assert (told["count"], told["tokens"], told["token_strs"]) == (0, [], None)
    assert http.post("/detokenize", json={"model": model, "tokens": []}).json()["prompt"] == ""


def test_a_chat_that_is_longer_than_the_context_is_counted_all_the_same(http: httpx2.Client, model: str) -> None:
    long = [{"role": "user", "content": "one two three " * 4000}]
    told = http.post("/tokenize", json={"model": model, "messages": long, "max_tokens": 100})
    assert told.json()["count"] > 12_000
    refused = http.post("/v1/chat/completions", json={"model": model, "messages": long})
    assert refused.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": HELLO}, "prompt"),
        ("/tokenize", {"prompt": "a", "content": "a"}, "content"),
        ("/tokenize", {"prompt": 7}, "prompt"),
        ("/tokenize", {"prompt": "a" * 1_000_001}, "prompt"),
        ("/tokenize", {"prompt": "word " * 199_999 + " " * 5}, None),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"messages": [{"role": "king"}]}, "messages[0].role"),
        ("/tokenize", {"messages": HELLO, "chat_template": "{{ 1 }}"}, "chat_template"),
        ("/tokenize", {"messages": HELLO, "chat_template_kwargs": {"tools": 1}}, "chat_template_kwargs.tools"),
        ("/tokenize", {"messages": HELLO, "add_generation_prompt": False}, "add_generation_prompt"),
        ("/tokenize", {"messages": HELLO, "continue_final_message": True}, "continue_final_message"),
        ("/tokenize", {"messages": HELLO, "add_special_tokens": True}, "add_special_tokens"),
        ("/tokenize", {"messages": HELLO, "mode": "klingon"}, "mode"),
        ("/tokenize", {"content": "a", "parse_special": False}, "parse_special"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [1, 2, 3, 49152]}, "tokens[3]"),
        ("/detokenize", {"tokens": [1, -1]}, "tokens[1]"),
        ("/detokenize", {"tokens": [0] * 131_073}, "tokens"),
        ("/detokenize", {"tokens": [1.5]}, "tokens[0]"),
    ],
)
def test_what_is_wrong_is_named(http: httpx2.Client, model: str, path: str, body: dict[str, Any], param: str | None) -> None:
    answer = http.post(path, json={"model": model, **body})
    if param is None:
        assert answer.status_code == 200
        return
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].startswith(param)


def test_it_does_not_wait_for_a_long_answer(http: httpx2.Client, client: openai.OpenAI, model: str) -> None:
    began, stopped = threading.Event(), threading.Event()

    def talk() -> None:
        asked: Any = {"messages": HELLO, "max_tokens": 4000, "extra_body": {"ignore_eos": True}}
        with client.chat.completions.create(model=model, stream=True, **asked) as chunks:
            for _ in chunks:
                began.set()
                if stopped.is_set():
                    return
        raise AssertionError("the answer was over first")

    talking = threading.Thread(target=talk)
    talking.start()
    assert began.wait(60)
    try:
        for _ in range(5):
            assert http.post("/tokenize", json={"model": model, "messages": HELLO}).json()["count"] > 10
        assert talking.is_alive()
    finally:
        stopped.set()
        talking.join(30)


def test_the_model_of_a_script_counts_words(http: httpx2.Client) -> None:
    body = {"model": "echo", "messages": [{"role": "user", "content": "[[tokens=2]] one two three"}]}
    counted = http.post("/tokenize", json=body).json()["count"]
    assert counted == http.post("/v1/chat/completions", json=body).json()["usage"]["prompt_tokens"]
