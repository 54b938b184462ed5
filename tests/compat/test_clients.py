"""What other clients than the SDKs send, as they send it, and what the SDKs do beyond plain calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

CHAT = "/v1/chat/completions"
USER = {"role": "user", "content": "hi there"}
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi there"}]
TOOL = {"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object"}, "strict": True}}
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC"
PICTURE = f"data:image/png;base64,{DOT}"

BODIES: dict[str, dict[str, Any]] = {
    "LangChain": {
        "messages": [USER],
        "max_completion_tokens": 5,
        "n": 1,
        "stream": False,
        "temperature": 0.7,
        "seed": None,
        "stop": None,
    },
    "LangChain, a stream": {
        "messages": [USER],
        "max_completion_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
        "parallel_tool_calls": None,
    },
    "LangChain, after a call": {
        "messages": [
            USER,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{broken"}}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "42"},
            {"role": "assistant", "content": [{"type": "text", "text": "it is 42", "id": "x", "index": 0}]},
            USER,
        ]
    },
    "LlamaIndex": {
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "hi there"}]}],
        "stream": False,
        "temperature": 0.1,
        "max_tokens": None,
        "logprobs": False,
        "top_logprobs": 0,
    },
    "LlamaIndex, with tools it does not want used": {
        "messages": [USER],
        "tools": [{**TOOL, "strict": True}],
        "tool_choice": "none",
        "parallel_tool_calls": False,
    },
    "AI SDK": {
        "messages": [{"role": "system", "content": "s"}, USER],
        "max_tokens": 5,
        "temperature": 0,
        "tools": None,
        "tool_choice": None,
        "response_format": {"type": "text"},
        "stream": True,
    },
    "Open WebUI": {
        "messages": [USER],
        "stream": True,
        "chat_id": "c",
        "session_id": "s",
        "features": {"web_search": False},
        "background_tasks": {},
        "variables": {"{{USER_NAME}}": "x"},
    },
    "Codex": {
        "messages": [{"role": "developer", "content": [{"type": "text", "text": "be brief"}]}, USER],
        "reasoning_effort": "minimal",
        "verbosity": "low",
        "store": False,
        "prompt_cache_key": "k",
        "service_tier": "auto",
        "safety_identifier": "z",
        "metadata": {"a": "b"},
        "prediction": {"type": "content", "content": "x"},
        "moderation": {},
    },
    "no tools, but a choice of them": {"messages": [USER], "tool_choice": "auto", "tools": []},
    "one stop text": {"messages": [USER], "stop": "\n\n"},
    "a picture as Ollama writes it": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": PICTURE}]}]},
    "a picture with an odd type and a detail": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "hi"},
                    {"type": "image_url", "image_url": {"url": PICTURE.replace("image/png", "image/*"), "detail": "low"}},
                ],
            }
        ]
    },
}


@pytest.mark.parametrize("client", BODIES)
def test_what_clients_send_is_answered(http: httpx2.Client, client: str) -> None:
    body = {"model": "echo", **BODIES[client]}
    answer = http.post(CHAT, json=body)
    assert answer.status_code == 200, answer.text
    if body.get("stream"):
        assert answer.text.endswith("data: [DONE]\n\n")
    else:
        assert answer.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("client", [name for name in BODIES if "picture" not in name])
def test_a_real_model_answers_them_too(http: httpx2.Client, model: str, client: str) -> None:
    body = {**BODIES[client], "model": model, "max_tokens": 3, "max_completion_tokens": None}
    answer = http.post(CHAT, json=body)
    assert answer.status_code == 200, answer.text


def test_a_file_part_is_refused_by_name(http: httpx2.Client) -> None:
    content = [{"type": "file", "file": {"file_id": "f"}}]
    answer = http.post(CHAT, json={"model": "echo", "messages": [{"role": "user", "content": content}]})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages[0].content[0].file"


def test_a_model_object_has_the_types_that_strict_clients_want(http: httpx2.Client) -> None:
    listed = http.get("/v1/models").json()
    assert listed["object"] == "list"
    for entry in listed["data"]:
        assert entry == http.get(f"/v1/models/{entry['id']}").json()
        assert (entry["object"], type(entry["created"]), type(entry["owned_by"])) == ("model", int, str)


# ---------------------------------------------------------------- the SDK beyond plain calls


def test_raw_answers_show_the_headers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="echo", messages=HELLO)
    assert raw.request_id == raw.headers["x-request-id"]
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert raw.parse().choices[0].message.content == "hi there"


def test_the_stream_helper_collects_the_answer(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="echo", messages=HELLO, stream_options={"include_usage": True}) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == "hi there"
    assert final.usage is not None


@pytest.mark.parametrize("fields", [{"temperature": 9}, {"n": 0}, {"messages": []}, {"model": "no-such-model"}])
def test_a_bad_request_is_sent_once(server_url: str, fields: dict[str, Any]) -> None:
    sent: list[httpx2.Request] = []
    with (
        httpx2.Client(event_hooks={"request": [sent.append]}) as transport,
        openai.OpenAI(base_url=server_url, api_key="none", max_retries=2, http_client=transport) as client,
        pytest.raises(openai.APIStatusError),
    ):
        client.chat.completions.create(**{"model": "echo", "messages": HELLO, **fields})
    assert len(sent) == 1


def test_a_wrong_key_is_an_authentication_error(start_server: Any, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    digest = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"  # of "foo"
    config.write_text(f'[auth]\nkeys = ["sha256:{digest}"]\n[models.echo]\nsource = ""\nkind = "echo"\n')
    running = start_server(config, "--inline")
    with openai.OpenAI(base_url=running.base_url, api_key="bar", max_retries=0) as client:
        assert client.with_options(api_key="foo").models.list().data[0].id == "echo"
        with pytest.raises(openai.AuthenticationError) as caught:
            client.chat.completions.create(model="echo", messages=HELLO)
    assert (caught.value.code, caught.value.type) == ("invalid_api_key", "authentication_error")
    assert caught.value.request_id


def test_pings_in_a_silent_stream_do_not_reach_the_caller(start_server: Any, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    times = "first_byte_timeout = 0.05\nping_interval = 0.05\n"
    config.write_text(f'[server]\n{times}[models.echo]\nsource = ""\nkind = "echo"\n')
    running = start_server(config, "--inline")
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "[[first_delay=0.5]] [[delay=0.3]] one two"}]
    with openai.OpenAI(base_url=running.base_url, api_key="none", max_retries=0) as client:
        chunks = list(client.chat.completions.create(model="echo", messages=messages, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).strip() == "one two"
    raw = httpx2.post(running.origin + CHAT, json={"model": "echo", "messages": messages, "stream": True}, timeout=60).text
    assert raw.startswith(": ping\n\n")
    frames = [frame for frame in raw.split("\n\n") if frame.startswith("data: {")]
    assert all(json.loads(frame.removeprefix("data: "))["choices"] for frame in frames)
