"""What coding agents really send, recorded from them (`agents/*.json`): answered, run on with, and found again in the cache."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

RECORDED = {path.stem: json.loads(path.read_text()) for path in (Path(__file__).parent / "agents").glob("*.json")}
CODEX = sorted(name for name in RECORDED if name.startswith("codex"))
CLAUDE = sorted(name for name in RECORDED if name.startswith("claude"))
TASK = "Write hello into made.txt"
COMMAND = "echo hello > made.txt"
CALLS = {
    "codex_functions": {"name": "exec_command", "arguments": {"cmd": COMMAND}},
    "codex_code_mode": {"name": "functions__exec", "arguments": {"input": f"text('{COMMAND}')"}},
    "claude_code_adaptive": {"name": "Bash", "arguments": {"command": COMMAND}},
    "claude_code_budget": {"name": "Bash", "arguments": {"command": COMMAND}},
}
Event = dict[str, Any]


def scripted(name: str, turn: int) -> dict[str, Any]:
    """The recorded request for the scripted model, which calls a tool and then says that it is done."""
    record = copy.deepcopy(RECORDED[name])
    field = "input" if name in CODEX else "messages"
    script = f"[[answer=<tool_call>{json.dumps(CALLS[name])}</tool_call>]][[then=It is done.]] {TASK}"
    said = json.dumps(record[field][turn]).replace(TASK, json.dumps(script)[1:-1])
    return {**record["body"], "model": "echo", field: json.loads(said)}


def ask(http: httpx2.Client, name: str, body: dict[str, Any]) -> list[Event]:
    """The events of an answer to a request with the recorded headers."""
    record = RECORDED[name]
    answer = http.post(record["path"], json=body, headers=record["headers"])
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    frames = [frame for frame in answer.text.split("\n\n") if frame.startswith("event: ")]
    events = []
    for frame in frames:
        named, _, data = frame.partition("\ndata: ")
        events.append(json.loads(data))
        assert named == f"event: {events[-1]['type']}"
    return events


# ---------------------------------------------------------------- Codex


def finished(events: list[Event]) -> dict[str, Any]:
    """The response of a stream of Codex's, once it has held to what Codex relies on."""
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert (kinds[-1], kinds.count("response.completed")) == ("response.completed", 1)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    response: dict[str, Any] = events[-1]["response"]
    added, done = ([e["item"] for e in events if e["type"] == f"response.output_item.{what}"] for what in ("added", "done"))
    assert [item["id"] for item in added] == [item["id"] for item in done] == [item["id"] for item in response["output"]]
    assert done == response["output"]
    assert response["usage"]["total_tokens"] == response["usage"]["input_tokens"] + response["usage"]["output_tokens"]
    return response


def text_of(response: dict[str, Any]) -> str:
    parts = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part["text"] for part in parts)


def test_codex_gets_a_call_of_its_function_and_goes_on_with_its_output(http: httpx2.Client) -> None:
    body = scripted("codex_functions", 0)
    [call] = finished(ask(http, "codex_functions", body))["output"]
    assert (call["type"], call["name"], json.loads(call["arguments"])) == ("function_call", "exec_command", {"cmd": COMMAND})
    body["input"] += [
        call,
        {"type": "function_call_output", "id": "fco_1", "call_id": call["call_id"], "output": "exited with 0"},
    ]
    assert text_of(finished(ask(http, "codex_functions", body))) == "It is done."


def test_codex_gets_a_call_of_a_custom_tool_within_a_namespace_that_stood_among_the_items(http: httpx2.Client) -> None:
    body = scripted("codex_code_mode", 0)
    assert "tools" not in body
    [call] = finished(ask(http, "codex_code_mode", body))["output"]
    assert (call["type"], call["namespace"], call["name"]) == ("custom_tool_call", "functions", "exec")
    assert call["input"] == f"text('{COMMAND}')"
    output = [{"type": "input_text", "text": "Script completed"}]
    body["input"] += [call, {"type": "custom_tool_call_output", "id": "c_1", "call_id": call["call_id"], "output": output}]
    assert text_of(finished(ask(http, "codex_code_mode", body))) == "It is done."


@pytest.mark.parametrize("name", CODEX)
def test_codex_s_own_next_requests_are_answered(http: httpx2.Client, name: str) -> None:
    assert text_of(finished(ask(http, name, scripted(name, 1)))) == "It is done."
    assert text_of(finished(ask(http, name, scripted(name, 2)))) == "And say bye"


@pytest.mark.parametrize("name", CODEX)
def test_nothing_of_codex_s_is_kept_since_it_says_so(http: httpx2.Client, name: str) -> None:
    response = finished(ask(http, name, scripted(name, 2)))
    assert response["store"] is False
    assert http.get(f"/v1/responses/{response['id']}").status_code == 404


# ---------------------------------------------------------------- Claude Code


def message_of(events: list[Event]) -> tuple[list[dict[str, Any]], str, dict[str, int]]:
    """Content, reason to stop and usage of a stream of Claude Code's, once it has held to what Claude Code relies on."""
    events = [event for event in events if event["type"] != "ping"]
    assert [events[0]["type"], events[-2]["type"], events[-1]["type"]] == ["message_start", "message_delta", "message_stop"]
    blocks: list[dict[str, Any]] = []
    pieces: list[str] = []
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            assert event["index"] == len(blocks)
            blocks.append(event["content_block"])
            pieces.append("")
        elif event["type"] == "content_block_delta":
            assert event["index"] == len(blocks) - 1
            pieces[-1] += event["delta"].get("text", "") + event["delta"].get("partial_json", "")
    for block, piece in zip(blocks, pieces, strict=True):
        block |= {"input": json.loads(piece)} if block["type"] == "tool_use" else {"text": piece}
    return blocks, events[-2]["delta"]["stop_reason"], events[-2]["usage"]


@pytest.mark.parametrize("name", CLAUDE)
def test_claude_code_gets_a_call_of_its_tool_and_goes_on_with_its_result(http: httpx2.Client, name: str) -> None:
    body = scripted(name, 0)
    [call], reason, _ = message_of(ask(http, name, body))
    assert (call["type"], call["name"], call["input"], reason) == ("tool_use", "Bash", {"command": COMMAND}, "tool_use")
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "(no output)", "is_error": False}
    body["messages"] += [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    [text], reason, _ = message_of(ask(http, name, body))
    assert (text["text"], reason) == ("It is done.", "end_turn")


@pytest.mark.parametrize("name", CLAUDE)
def test_claude_code_s_own_next_requests_are_answered(http: httpx2.Client, name: str) -> None:
    [text], *_ = message_of(ask(http, name, scripted(name, 1)))
    assert text["text"] == "It is done."
    [text], *_ = message_of(ask(http, name, scripted(name, 2)))
    assert text["text"].endswith("And now say bye")


@pytest.mark.parametrize("display", ["omitted", "summarized", "updates"])
def test_claude_code_s_ways_to_show_thoughts_are_known(http: httpx2.Client, display: str) -> None:
    body = scripted("claude_code_adaptive", 1)
    body["thinking"]["display"] = display
    assert message_of(ask(http, "claude_code_adaptive", body))[1] == "end_turn"


# ---------------------------------------------------------------- the cache of a real model


def light(body: dict[str, Any]) -> dict[str, Any]:
    """With two tools, which a small model reads soon."""
    for holder in (body, *(item for item in body.get("input", ()) if item["type"] == "additional_tools")):
        if "tools" in holder:
            holder["tools"] = holder["tools"][:2]
            for tool in holder["tools"]:
                tool |= {"tools": tool["tools"][:1]} if "tools" in tool else {}
    return body


def test_claude_code_s_next_request_finds_its_beginning_in_the_cache(http: httpx2.Client, model: str) -> None:
    """Whatever the line about billing says, and wherever its marks for the cache have moved to."""
    record = RECORDED["claude_code_adaptive"]
    seen = []
    for turn, version in enumerate(("1.b15; cch=00000;", "2.c99; cch=a1b2c;")):
        body = {**copy.deepcopy(record["body"]), "model": model, "max_tokens": 4, "messages": record["messages"][turn]}
        body["system"][0]["text"] = f"x-anthropic-billing-header: cc_version={version}"
        seen.append(message_of(ask(http, "claude_code_adaptive", light(body)))[2])
    first, second = (usage["input_tokens"] + usage["cache_read_input_tokens"] for usage in seen)
    assert first < second
    assert seen[1]["cache_read_input_tokens"] > 0.9 * first


@pytest.mark.parametrize("name", CODEX)
def test_codex_s_next_request_finds_its_beginning_in_the_cache(http: httpx2.Client, model: str, name: str) -> None:
    record = copy.deepcopy(RECORDED[name])
    seen = []
    for turn in (0, 1):
        body = {**record["body"], "model": model, "max_output_tokens": 4, "input": record["input"][turn]}
        seen.append(ask(http, name, light(body))[-1]["response"]["usage"])
    first, second = (usage["input_tokens"] for usage in seen)
    assert first < second
    assert seen[1]["input_tokens_details"]["cached_tokens"] > 0.9 * first
