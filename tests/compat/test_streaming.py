"""The wire of a stream, byte by byte, for clients that are not the SDKs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2

CHAT = "/v1/chat/completions"


def events(http: httpx2.Client, **fields: Any) -> tuple[httpx2.Headers, list[str]]:
    body = {"model": "echo", "messages": [{"role": "user", "content": "one two three"}], "stream": True, **fields}
    answer = http.post(CHAT, json=body, headers={"accept-encoding": "gzip"})
    assert answer.status_code == 200, answer.text
    return answer.headers, [frame for frame in answer.text.split("\n\n") if frame]


def chunks(frames: list[str]) -> list[dict[str, Any]]:
    return [json.loads(frame.removeprefix("data: ")) for frame in frames if frame.startswith("data: {")]


def test_the_headers_keep_proxies_from_holding_a_stream_back(http: httpx2.Client) -> None:
    headers, _ = events(http)
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in headers


def test_a_stream_ends_with_done(http: httpx2.Client) -> None:
    _, frames = events(http)
    assert frames[-1] == "data: [DONE]"
    assert frames.count("data: [DONE]") == 1


def test_usage_is_null_until_the_last_chunk_when_asked_and_absent_when_not(http: httpx2.Client) -> None:
    asked = chunks(events(http, stream_options={"include_usage": True})[1])
    assert all("usage" in chunk for chunk in asked)
    assert [chunk["usage"] is None for chunk in asked] == [True] * (len(asked) - 1) + [False]
    assert asked[-1]["choices"] == []
    plain = chunks(events(http)[1])
    assert not any(chunk.get("usage") for chunk in plain)
    assert all(chunk["choices"] for chunk in plain)


def test_each_choice_has_one_finish_reason_and_null_logprobs(http: httpx2.Client) -> None:
    seen = [choice for chunk in chunks(events(http, n=2)[1]) for choice in chunk["choices"]]
    assert sorted(c["index"] for c in seen if c["finish_reason"]) == [0, 1]
    assert all(c["finish_reason"] in (None, "stop", "length") for c in seen)
    assert all("logprobs" in c for c in seen)


def test_a_failure_before_the_first_event_is_a_status(http: httpx2.Client, model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 10**7}
    answer = http.post(CHAT, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_a_failure_after_it_is_an_error_event_without_done(http: httpx2.Client) -> None:
    _, frames = events(http, messages=[{"role": "user", "content": "[[fail_after=2]] one two three"}])
    assert set(json.loads(frames[-1].removeprefix("data: "))) == {"error"}
    assert "data: [DONE]" not in frames


def test_the_models_states_are_a_stream_that_ends_with_the_server(start_server: Any, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[models.small]\nsource = ""\nkind = "echo"\n')
    running = start_server(config)
    body = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}
    seen = []
    with httpx2.Client(base_url=running.origin, timeout=60) as http, http.stream("GET", "/models/sse") as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                seen.append(json.loads(line[6:])["data"]["status"])
                if len(seen) == 1:
                    assert httpx2.post(f"{running.base_url}/chat/completions", json=body, timeout=60).status_code == 200
                if seen[-1] == "loaded":
                    running.process.terminate()
    assert seen[0] == "unloaded"
    assert seen.index("loading") < seen.index("loaded")
