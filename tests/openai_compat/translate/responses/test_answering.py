"""A stream is the whole answer in pieces, and what a client pieces together of it is what the last event says."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openai_compat.translate.responses import Answering, frame, read_items, to_turn
from schemas.answers import ReadAnswer
from schemas.decode import decode
from schemas.responses import CreateResponseRequest

TOOLS = [
    {"type": "function", "name": "look"},
    {"type": "custom", "name": "patch"},
    {"type": "namespace", "name": "files", "description": "", "tools": [{"type": "custom", "name": "edit"}]},
]
WORDS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
CALLS = st.tuples(st.sampled_from(["look", "patch", "files__edit", "unknown"]), WORDS)
ANSWERS = st.fixed_dictionaries({"thought": WORDS, "content": WORDS, "calls": st.lists(CALLS, max_size=3)})
IDS = {"id", "item_id"}


def _pieces(text: str, sizes: list[int]) -> list[str]:
    """Cut into pieces of these sizes, then the rest; never an empty one."""
    pieces = []
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
    return [piece for piece in [*pieces, text] if piece]


def _chunks(answer: dict[str, Any], sizes: list[int]) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": piece, "reasoning": piece} for piece in _pieces(answer["thought"], sizes)]
    deltas += [{"content": piece} for piece in _pieces(answer["content"], sizes)]
    for index, (name, text) in enumerate(answer["calls"]):
        start = {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": ""}}
        deltas.append({"tool_calls": [start]})
        pieces = _pieces(json.dumps({"input": text}), sizes)
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in pieces]
    return [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]


def _message(answer: dict[str, Any]) -> dict[str, Any]:
    calls = [
        {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": json.dumps({"input": text})}}
        for index, (name, text) in enumerate(answer["calls"])
    ]
    message = {"role": "assistant", "content": answer["content"] or None, "tool_calls": calls or None}
    return {"index": 0, "message": {**message, "reasoning_content": answer["thought"]}, "finish_reason": None}


def _run(choices: list[dict[str, Any]], finish: str, **fields: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    request = decode(json.dumps({"model": "m", "input": "Hi", "tools": TOOLS, **fields}).encode(), CreateResponseRequest)
    turn = to_turn(request, [], read_items(request.input))
    machine = Answering(request, turn, id="resp_1", created=1, clock=lambda: 2.0)
    events = machine.begin()
    for choice in [*choices, {"index": 0, "delta": {}, "finish_reason": finish}]:
        events += machine.add(msgspec.convert({"choices": [choice]}, ReadAnswer))
    events += machine.finish()
    return [json.loads(frame(event).partition(b"\ndata: ")[2]) for event in events], events[-1].response and machine.response


def _unnamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unnamed(inner) for key, inner in value.items() if key not in IDS}
    return [_unnamed(inner) for inner in value] if isinstance(value, list) else value


def _pieced(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The output as a client pieces it together, which reads no ``done`` and no last snapshot."""
    items: list[dict[str, Any]] = []
    for event in events:
        match event["type"].removeprefix("response."):
            case "output_item.added":
                items.append(dict(event["item"]))
            case "content_part.added":
                items[event["output_index"]]["content"] = [*items[event["output_index"]]["content"], dict(event["part"])]
            case "reasoning_summary_part.added":
                items[event["output_index"]]["summary"] = [dict(event["part"])]
            case "output_text.delta" | "reasoning_text.delta":
                items[event["output_index"]]["content"][event["content_index"]]["text"] += event["delta"]
            case "reasoning_summary_text.delta":
                items[event["output_index"]]["summary"][event["summary_index"]]["text"] += event["delta"]
            case "function_call_arguments.delta":
                items[event["output_index"]]["arguments"] += event["delta"]
            case "custom_tool_call_input.delta":
                items[event["output_index"]]["input"] += event["delta"]
    return items


SIZES = st.lists(st.integers(0, 9), max_size=6)
FINISHES = st.sampled_from(["stop", "tool_calls", "length", "content_filter"])
ASKED = st.sampled_from([{}, {"reasoning": {"summary": "auto"}}, {"include": ["reasoning.encrypted_content"]}])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(answer=ANSWERS, sizes=SIZES, finish=FINISHES, fields=ASKED)
def test_a_stream_cut_anywhere_is_the_whole_answer(answer, sizes, finish, fields) -> None:
    events, streamed = _run(_chunks(answer, sizes), finish, **fields)
    _, whole = _run([_message(answer)], finish, **fields)
    assert _unnamed(msgspec.to_builtins(streamed)) == _unnamed(msgspec.to_builtins(whole))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(answer=ANSWERS, sizes=SIZES, finish=FINISHES, fields=ASKED)
def test_a_client_that_reads_deltas_alone_has_the_same_output(answer, sizes, finish, fields) -> None:
    events, response = _run(_chunks(answer, sizes), finish, **fields)
    late = {"status", "phase", "encrypted_content"}
    final = [{k: v for k, v in item.items() if k not in late} for item in msgspec.to_builtins(response).get("output")]
    assert [{k: v for k, v in item.items() if k not in late} for item in _pieced(events)] == final
    assert events[-1]["response"]["output"] == [e["item"] for e in _in_order(events)]


def _in_order(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted((e for e in events if e["type"] == "response.output_item.done"), key=lambda e: e["output_index"])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(answer=ANSWERS, fields=ASKED, stored=st.booleans())
def test_an_answer_s_items_given_back_are_the_message_that_they_came_from(answer, fields, stored) -> None:
    """Whoever keeps them: this server, or a client that sends them back as it got them."""
    _, response = _run([_message(answer)], "stop", **fields)
    output = msgspec.to_builtins(response)["output"]
    outputs = [
        {"type": f"{item['type'].removesuffix('_call')}_call_output", "call_id": item["call_id"], "output": "ok"}
        for item in output
        if "call_id" in item
    ]
    history = output if stored else read_items(output)
    request = decode(b'{"model": "m", "input": "x"}', CreateResponseRequest)
    messages = to_turn(request, history, read_items([*outputs, {"role": "user", "content": "Go on"}])).chat["messages"]
    expected = {key: value for key, value in _message(answer)["message"].items() if value}
    if not answer["content"] and not answer["calls"]:
        expected["content"] = ""
    assert {key: value for key, value in messages[0].items() if value is not None} | _arguments(messages[0]) == (
        expected | _arguments(expected)
    )
    assert [message["role"] for message in messages[1:]] == ["tool"] * len(answer["calls"]) + ["user"]


def _arguments(message: dict[str, Any]) -> dict[str, Any]:
    """Arguments of custom tools are written anew, so they are compared as what they hold."""
    calls = message.get("tool_calls") or []
    return {"tool_calls": [(c["id"], c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls]}


def test_an_empty_answer_is_an_empty_message(answered, delta) -> None:
    result = answered(delta("stop"))
    assert result.types == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    assert [(item["type"], item["content"], item["phase"]) for item in result.output] == [("message", [part], "final_answer")]


def test_reasoning_comes_as_its_text_unless_a_summary_was_asked_for(answered, delta) -> None:
    plain = answered(delta(reasoning="Hm"), delta(content="Yes"))
    assert plain.deltas("reasoning_text") == "Hm"
    assert plain.output[0]["summary"] == []
    assert plain.output[0]["content"] == [{"type": "reasoning_text", "text": "Hm"}]
    summed = answered(delta(reasoning="Hm"), delta(content="Yes"), reasoning={"generate_summary": "auto"})
    assert summed.deltas("reasoning_summary_text") == "Hm"
    assert summed.output[0]["summary"] == [{"type": "summary_text", "text": "Hm"}]
    assert "content" not in summed.output[0]


def test_words_before_a_call_are_commentary_and_the_others_the_answer(answered, delta) -> None:
    call = {"index": 0, "id": "call_1", "function": {"name": "look", "arguments": "{}"}}
    assert answered(delta(content="Let me look."), delta(tool_calls=[call])).output[0]["phase"] == "commentary"
    assert answered(delta(content="Here."), delta("stop")).output[0]["phase"] == "final_answer"
    assert "phase" not in answered(delta(content="Here"), delta("length")).output[0]


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        (None, "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_how_an_answer_ends_is_its_status(answered, delta, finish, status, reason) -> None:
    result = answered(delta(content="Hel"), delta(finish))
    assert (result.response["status"], result.response["incomplete_details"]) == (status, reason)
    assert result.types[-1] == status
    assert result.output[0]["status"] == status
    assert (result.response["completed_at"] is None) == (status == "incomplete")


def test_usage_is_what_the_chat_says(answered, whole) -> None:
    assert answered(whole(content="Hi")).response["usage"] == {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 14,
    }


def test_calls_that_a_server_writes_at_the_same_time_are_kept_apart(answered, delta) -> None:
    def piece(index: int, text: str, **more: Any) -> Any:
        return delta(tool_calls=[{"index": index, "function": {"arguments": text, **more.pop("function", {})}, **more}])

    result = answered(
        piece(0, '{"a', id="call_a", function={"name": "look"}),
        piece(1, '{"b', id="call_b", function={"name": "look"}),
        piece(0, '": 1}'),
        piece(1, '": 2}'),
        delta(content="Both."),
    )
    calls = [(item["call_id"], item["arguments"]) for item in result.output if item["type"] == "function_call"]
    assert calls == [("call_a", '{"a": 1}'), ("call_b", '{"b": 2}')]
    assert [event["output_index"] for event in result.of("output_item.done")] == [0, 1, 2]


LOOK = {"name": "look"}


@pytest.mark.parametrize(
    "pieces",
    [
        [{"id": "a", "function": {**LOOK, "arguments": "{}"}}, {"id": "b", "function": LOOK}],
        [{"index": n, "id": i, "function": {**LOOK, "arguments": "{}"}} for n, i in ((0, "a"), (0, "b"))],
        [{"index": n, "id": i, "function": {**LOOK, "arguments": "{}"}} for n, i in ((0, "a"), (5, "b"))],
        [
            {"index": 0, "id": "a", "function": {"arguments": "{}"}},
            {"index": 0, "function": LOOK},
            {"index": 1, "id": "b", "function": LOOK},
        ],
        [
            {"index": 0, "id": "a", "function": {**LOOK, "arguments": "{"}},
            {"index": 0, "function": {"arguments": "}"}},
            {"id": "b", "function": LOOK},
        ],
    ],
    ids=["no index", "one index", "a gap", "the name later", "an index at first"],
)
def test_what_servers_leave_out_of_their_calls_is_made_up(answered, delta, pieces) -> None:
    result = answered(*(delta(tool_calls=[piece]) for piece in pieces))
    assert [(item["call_id"], item["name"], item["arguments"]) for item in result.output] == [
        ("a", "look", "{}"),
        ("b", "look", "{}"),
    ]
    assert result.deltas("function_call_arguments") == "{}{}"


def test_arguments_that_come_before_the_name_are_not_lost(answered, delta) -> None:
    pieces = [{"arguments": '{"a"'}, {"arguments": ": 1"}, {**LOOK, "arguments": "}"}]
    result = answered(*(delta(tool_calls=[{"index": 0, "id": "a", "function": piece}]) for piece in pieces))
    assert result.output[0]["arguments"] == result.deltas("function_call_arguments") == '{"a": 1}'


def test_calls_that_have_one_id_among_them_get_their_own(answered, delta) -> None:
    pieces = [{"index": n, "id": "same", "function": {"name": "look", "arguments": "{}"}} for n in range(3)]
    ids = [item["call_id"] for item in answered(delta(tool_calls=pieces)).output]
    assert ids[0] == "same"
    assert len(set(ids)) == 3


def test_a_call_without_an_id_gets_one(answered, delta) -> None:
    item = answered(delta(tool_calls=[{"index": 0, "function": {"name": "look", "arguments": "{}"}}])).output[0]
    assert item["call_id"].startswith("call_")
    assert item["id"].startswith("fc_")


def test_names_go_back_to_what_the_client_called_them(answered, delta) -> None:
    calls = [{"index": n, "id": f"c{n}", "function": {"name": name, "arguments": '{"input": "x"}'}} for n, name in NAMED]
    items = answered(delta(tool_calls=calls), tools=TOOLS).output
    assert [(i["type"], i["name"], i.get("namespace"), i.get("input"), i.get("arguments")) for i in items] == [
        ("function_call", "look", None, None, '{"input": "x"}'),
        ("custom_tool_call", "patch", None, "x", None),
        ("custom_tool_call", "edit", "files", "x", None),
        ("function_call", "invented", None, None, '{"input": "x"}'),
    ]


NAMED = list(enumerate(["look", "patch", "files__edit", "invented"]))


def token(text: str) -> dict[str, Any]:
    return {"token": text, "logprob": -0.5, "bytes": None, "top_logprobs": []}


def test_logprobs_come_with_the_words_that_they_are_of(answered, delta, whole) -> None:
    include = {"include": ["message.output_text.logprobs"]}
    streamed = answered(
        delta(content="", logprobs={"content": [token("think")]}),
        delta(reasoning_content="think"),
        delta(content="", logprobs={"content": [token("k")]}),
        delta(content="He", logprobs={"content": [token("He")]}),
        delta(content="", logprobs={"content": [token("y")]}),
        delta("stop"),
        **include,
    )
    assert [entry["token"] for entry in streamed.output[1]["content"][0]["logprobs"]] == ["He", "y"]
    told = [entry["token"] for event in streamed.of("output_text.delta") for entry in event["logprobs"]]
    assert told == ["He", "y"]
    tokens = {"content": [token("think"), token("He"), token("y")]}
    once = answered(whole(content="Hey", reasoning_content="think", logprobs=tokens), **include)
    assert [entry["token"] for entry in once.output[1]["content"][0]["logprobs"]] == ["He", "y"]
    assert once.output[1]["content"][0]["logprobs"][0]["bytes"] == [72, 101]


def test_logprobs_that_nobody_asked_for_are_not_told(answered, delta) -> None:
    result = answered(delta(content="He", logprobs={"content": [token("He")]}))
    assert result.output[0]["content"][0]["logprobs"] == []


@pytest.mark.parametrize("entry", [1, None, {}, {"token": 1}, {"token": "a", "logprob": "b"}, {"token": "a"}])
def test_a_logprob_that_is_none_is_left_out(answered, delta, entry) -> None:
    try:
        chunk = delta(content="He", logprobs={"content": [entry]})
    except msgspec.ValidationError:
        return  # never gets here
    result = answered(chunk, include=["message.output_text.logprobs"])
    assert result.output[0]["content"][0]["logprobs"] == []


@pytest.mark.parametrize("raw", [None, "a", 5, {}, [[]], ["a"], [None]])
def test_the_bytes_of_a_token_are_numbers(answered, delta, raw) -> None:
    entry = {**token("é"), "bytes": raw, "top_logprobs": [{"token": "e", "logprob": -1, "bytes": raw}, 5, {"token": "no"}]}
    result = answered(delta(content="é", logprobs={"content": [entry]}), include=["message.output_text.logprobs"])
    top = {"token": "e", "logprob": -1, "bytes": [101]}
    expected = [{"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": [top]}]
    assert result.output[0]["content"][0]["logprobs"] == expected


def test_other_choices_are_not_heard(answered) -> None:
    other = msgspec.convert({"choices": [{"index": 1, "delta": {"content": "other"}}]}, ReadAnswer)
    assert answered(other).output[0]["content"][0]["text"] == ""


def test_chunks_that_say_nothing_are_no_events(answering) -> None:
    machine = answering()
    machine.begin()
    for chunk in ({}, {"choices": None}, {"choices": []}, {"choices": [{"delta": None}]}, {"choices": [{"delta": {}}]}):
        assert machine.add(msgspec.convert(chunk, ReadAnswer)) == []


def test_a_cancelled_answer_keeps_what_it_has_and_says_no_more(answering, delta) -> None:
    machine = answering()
    machine.begin()
    machine.add(delta(content="Hel"))
    assert machine.cancel() == []
    assert machine.response.status == "cancelled"
    assert [(i["status"], i["content"][0]["text"]) for i in machine.response.output] == [("incomplete", "Hel")]


def test_the_response_can_be_seen_at_any_time_and_does_not_change_afterwards(answering, delta) -> None:
    machine = answering(include=["message.output_text.logprobs"])
    machine.begin()
    machine.add(delta(content="Hel", logprobs={"content": [token("Hel")]}))
    early = machine.response
    before = msgspec.json.encode(early)
    machine.add(delta(content="lo", logprobs={"content": [token("lo")]}))
    machine.finish()
    assert msgspec.json.encode(early) == before
    assert early.output[0]["content"][0]["text"] == "Hel"


def test_one_in_the_background_waits_until_it_proceeds(answering, delta) -> None:
    machine = answering(background=True)
    assert [event.type for event in machine.begin()] == ["response.created", "response.queued"]
    assert machine.response.status == "queued"
    assert [event.type for event in machine.proceed()] == ["response.in_progress"]
    assert machine.proceed() == []
    assert machine.add(delta(content="a"))[0].type == "response.output_item.added"


def test_a_piece_costs_the_same_however_long_the_answer_is(answering, delta) -> None:
    def seconds(many: int) -> float:
        machine, chunk = answering(), delta(content="word ")
        machine.begin()
        begun = time.process_time()
        for _ in range(many):
            for event in machine.add(chunk):
                frame(event)
        return time.process_time() - begun

    seconds(1000)
    assert min(seconds(40_000) for _ in range(2)) < 25 * min(seconds(4000) for _ in range(3))
