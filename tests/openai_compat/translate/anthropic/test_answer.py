"""From a chat's answer to a message's: whole, in chunks, and in chunks cut anywhere."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.translate.anthropic.answer import Answering, frame
from openai_compat.translate.anthropic.request import Turn
from openai_compat.translate.anthropic.signatures import signature_of, thoughts_of
from schemas.answers import ReadAnswer, ReadUsage
from schemas.anthropic_blocks import ThinkingBlock

USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
LONG = "mcp__long"


def turn(**fields: Any) -> Turn:
    return Turn(**{"chat": {}, "names": {"short": LONG}, "stops": ("END",), "origins": [], "shows_thinking": True, **fields})


def answering(**fields: Any) -> Answering:
    return Answering(turn(**fields), id="msg_1", model="m", prompt_tokens=7)


def answer_of(key: str, said: dict[str, Any], **choice: Any) -> ReadAnswer:
    return msgspec.convert({"choices": [{"index": 0, key: said, **choice}]}, ReadAnswer)


def call(index: int | None, arguments: str = "", **more: Any) -> dict[str, Any]:
    name = {"name": more.pop("name")} if "name" in more else {}
    place = {} if index is None else {"index": index}
    return {**place, **more, "function": {**name, "arguments": arguments}}


def whole(said: dict[str, Any], finish: str | None = "stop", **fields: Any) -> dict[str, Any]:
    choice = {key: fields.pop(key) for key in ("stop_reason",) if key in fields}
    answer = answer_of("message", said, finish_reason=finish, **choice)
    answer = msgspec.structs.replace(answer, usage=msgspec.convert(USAGE, ReadUsage))
    return json.loads(msgspec.json.encode(answering(**fields).whole(answer)))


def streamed(chunks: list[ReadAnswer], **fields: Any) -> list[dict[str, Any]]:
    machine = answering(**fields)
    events = [*machine.begin(), *(event for chunk in chunks for event in machine.add(chunk)), *machine.finish()]
    framed = [frame(event).decode() for event in events]
    assert all(text.endswith("\n\n") and text.count("\n") == 3 for text in framed)
    found = [text.split("\n") for text in framed]
    data = [json.loads(lines[1].removeprefix("data: ")) for lines in found]
    assert [lines[0] for lines in found] == [f"event: {each['type']}" for each in data]
    return data


def put_together(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The content as a client makes it of the events; the order of events is checked on the way."""
    content: list[dict[str, Any]] = []
    texts: list[str] = []
    is_open = False
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert not is_open
                assert event["index"] == len(content)
                content.append(event["content_block"])
                texts, is_open = [], True
            case "content_block_delta":
                assert is_open
                assert event["index"] == len(content) - 1
                piece = event["delta"]
                if piece["type"] == "signature_delta":
                    content[-1]["signature"] = piece["signature"]
                else:
                    texts.append(piece.get("text") or piece.get("thinking") or piece.get("partial_json") or "")
            case "content_block_stop":
                assert is_open
                is_open = False
                block = content[-1]
                key = {"text": "text", "thinking": "thinking", "tool_use": "input"}[block["type"]]
                block[key] = json.loads("".join(texts) or "{}") if key == "input" else "".join(texts)
    assert not is_open
    return content


CALLS = [call(0, '{"a": "é{"}', id="call_1", name="look"), call(1, "{}", id="call_2", name="short")]
SAID = {"reasoning_content": "Hm. ", "content": "Well: ", "tool_calls": CALLS}


def test_a_whole_answer_has_a_block_for_each_thing() -> None:
    message = whole(SAID, "tool_calls")
    assert message.pop("content")[1:] == [
        {"type": "text", "text": "Well: "},
        {"type": "tool_use", "id": "call_1", "name": "look", "input": {"a": "é{"}},
        {"type": "tool_use", "id": "call_2", "name": LONG, "input": {}},
    ]
    assert message == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 6,
            "cache_read_input_tokens": 4,
            "cache_creation_input_tokens": 0,
            "output_tokens": 5,
            "output_tokens_details": {"thinking_tokens": 2},
        },
    }


def test_thoughts_have_a_signature_and_are_sent_only_where_they_are_wanted() -> None:
    [thought, _] = whole({"reasoning": "Hm.", "content": "Yes."})["content"]
    assert (thought["type"], thought["thinking"]) == ("thinking", "Hm.")
    assert thought["signature"]
    assert [block["type"] for block in whole({"reasoning": "Hm.", "content": "Yes."}, shows_thinking=False)["content"]] == [
        "text"
    ]


@given(st.text(max_size=40))
def test_thoughts_that_are_not_shown_travel_in_their_signature(thoughts: str) -> None:
    signature = signature_of(thoughts, carried=True)
    assert thoughts_of(ThinkingBlock(thinking="", signature=signature)) == thoughts
    assert thoughts_of(ThinkingBlock(thinking="shown", signature=signature_of("shown", carried=False))) == "shown"


@pytest.mark.parametrize("signature", [None, "", "oc1+", "oc1+%", "oc1+/w==", "EqQBCkgIB"])
def test_a_signature_of_somebody_else_s_carries_nothing(signature: str | None) -> None:
    assert thoughts_of(ThinkingBlock(thinking="", signature=signature)) == ""


def test_omitted_thoughts_show_no_word() -> None:
    events = streamed(
        [answer_of("delta", {"reasoning": "Secret"}), answer_of("delta", {"content": "x"})], carries_thinking=True
    )
    [thought, _] = put_together(events)
    assert thought["thinking"] == ""
    assert "Secret" not in json.dumps(events)


@pytest.mark.parametrize(
    ("said", "finish", "fields", "reason", "sequence"),
    [
        ({"content": "x"}, "stop", {}, "end_turn", None),
        ({"content": "x"}, None, {}, "end_turn", None),
        ({"content": "x"}, "length", {}, "max_tokens", None),
        ({"content": "x"}, "length", {"is_cut": True}, "model_context_window_exceeded", None),
        ({"content": "x"}, "stop", {"stop_reason": "END"}, "stop_sequence", "END"),
        ({"content": "x"}, "stop", {"stop_reason": "other"}, "end_turn", None),
        ({"content": "x"}, "stop", {"stop_reason": 2}, "end_turn", None),
        ({"content": "x"}, "stop", {"stop_reason": {"kind": "END"}}, "end_turn", None),
        ({"content": "x"}, "content_filter", {}, "refusal", None),
        ({"refusal": "No."}, "stop", {}, "refusal", None),
        ({"tool_calls": CALLS}, "stop", {}, "tool_use", None),
        ({"tool_calls": CALLS}, "length", {}, "max_tokens", None),
        ({"content": "x"}, "length", {"is_mute": True}, "max_tokens", None),
        ({"content": "x"}, "strange", {}, "end_turn", None),
    ],
)
def test_why_an_answer_ended(said: Any, finish: Any, fields: Any, reason: str, sequence: str | None) -> None:
    message = whole(said, finish, **fields)
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)


def test_a_refusal_is_text_and_a_mute_answer_has_none() -> None:
    assert whole({"refusal": "No."})["content"] == [{"type": "text", "text": "No."}]
    assert whole({"content": "x"}, is_mute=True)["content"] == []


@pytest.mark.parametrize("arguments", ["", '{"a": ', "[1]", "nonsense", "[" * 100_000, "null"])
def test_arguments_that_are_no_object_are_an_empty_input(arguments: str) -> None:
    [block] = whole({"tool_calls": [call(0, arguments, id="c", name="look")]}, "length")["content"]
    assert block["input"] == {}


def test_the_events_of_a_stream_begin_and_end_as_clients_expect() -> None:
    usage = msgspec.convert({"choices": [], "usage": USAGE}, ReadAnswer)
    events = streamed([answer_of("delta", {"content": "Hi"}), answer_of("delta", {}, finish_reason="stop"), usage])
    assert [event["type"] for event in events] == [
        "message_start", "ping", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
        "message_stop",
    ]  # fmt: skip
    start = events[0]["message"]
    assert (start["content"], start["stop_reason"], start["usage"]["input_tokens"]) == ([], None, 7)
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert events[-2]["usage"]["input_tokens"] == 6
    assert events[-2]["usage"]["cache_read_input_tokens"] == 4


def test_without_counts_there_are_estimates() -> None:
    events = streamed([answer_of("delta", {"content": "Hello"})])
    assert (events[-2]["usage"]["input_tokens"], events[-2]["usage"]["output_tokens"]) == (7, 2)


def test_other_choices_than_the_first_are_not_mixed_in() -> None:
    both = msgspec.convert(
        {"choices": [{"index": 1, "delta": {"content": "B"}}, {"index": 0, "delta": {"content": "A"}}]}, ReadAnswer
    )
    assert put_together(streamed([both])) == [{"type": "text", "text": "A"}]


def test_a_call_is_shown_while_it_is_written_and_the_next_one_too() -> None:
    machine = answering()
    pieces = [
        call(0, id="c1", name="look"),
        call(0, '{"a"'),
        call(0, ": 1}"),
        call(1, id="c2", name="look"),
        call(1, "{"),
        call(1, "}"),
    ]
    kinds = [[event.__struct_config__.tag for event in machine.add(answer_of("delta", {"tool_calls": [p]}))] for p in pieces]
    start, delta, stop = "content_block_start", "content_block_delta", "content_block_stop"
    assert kinds == [[start], [delta], [delta], [stop, start], [delta], [delta]]


def test_calls_whose_pieces_are_mixed_come_apart() -> None:
    pieces = [
        [call(0, "", id="c1", name="look"), call(1, "", id="c2", name="see")],
        [call(0, '{"a":'), call(1, '{"b":')],
        [call(1, "2}"), call(0, "1}")],
        [call(2, '{"c":3}', id="c3", name="hear")],
    ]
    content = put_together(streamed([answer_of("delta", {"tool_calls": each}) for each in pieces]))
    assert [(block["id"], block["name"], block["input"]) for block in content] == [
        ("c1", "look", {"a": 1}),
        ("c2", "see", {"b": 2}),
        ("c3", "hear", {"c": 3}),
    ]


def test_calls_without_index_or_id_are_told_apart_by_their_place() -> None:
    said = {"tool_calls": [call(None, '{"a":1}', name="look"), call(None, "{}", name="see")]}
    content = whole(said, "tool_calls")["content"]
    assert [(block["name"], block["input"]) for block in content] == [("look", {"a": 1}), ("see", {})]
    assert len({block["id"] for block in content}) == 2
    assert all(block["id"].startswith("toolu_") for block in content)


def test_a_name_that_comes_late_is_waited_for() -> None:
    pieces = [call(0, '{"a"', id="c"), call(0, ":1}", name="look")]
    content = put_together(streamed([answer_of("delta", {"tool_calls": [each]}) for each in pieces]))
    assert content == [{"type": "tool_use", "id": "c", "name": "look", "input": {"a": 1}}]


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
THINGS = st.lists(
    st.one_of(
        st.tuples(st.just("content"), WORDS),
        st.tuples(st.just("reasoning_content"), WORDS),
        st.tuples(st.just("call"), st.dictionaries(WORDS, st.integers() | WORDS | st.none(), max_size=3)),
    ),
    max_size=8,
)


def cut(draw: Any, text: str) -> list[str]:
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@given(THINGS, st.data())
def test_whatever_the_chunks_a_stream_says_what_was_said(things: list[tuple[str, Any]], data: st.DataObject) -> None:
    chunks: list[ReadAnswer] = []
    expected: list[tuple[str, Any]] = []
    calls = 0
    for kind, value in things:
        if kind == "call":
            chunks.append(answer_of("delta", {"tool_calls": [call(calls, id=f"c{calls}", name="look")]}))
            pieces = cut(data.draw, json.dumps(value))
            chunks += [answer_of("delta", {"tool_calls": [call(calls, piece)]}) for piece in pieces]
            calls += 1
        else:
            chunks += [answer_of("delta", {kind: piece}) for piece in cut(data.draw, value)]
            if expected and expected[-1][0] == kind:
                expected[-1] = (kind, expected[-1][1] + value)
                continue
        expected.append((kind, value))
    keys = {"content": "text", "reasoning_content": "thinking", "call": "input"}
    content = put_together(streamed(chunks))
    assert [block[keys[kind]] for block, (kind, _) in zip(content, expected, strict=True)] == [said for _, said in expected]


@given(st.data())
def test_streamed_is_whole(data: st.DataObject) -> None:
    said = {
        key: value
        for key, value in (
            ("reasoning_content", data.draw(WORDS | st.none())),
            ("content", data.draw(WORDS | st.none())),
            ("tool_calls", CALLS[: data.draw(st.integers(0, 2))]),
        )
        if value
    }
    chunks = [
        answer_of("delta", {key: piece})
        for key in ("reasoning_content", "content")
        for piece in cut(data.draw, said.get(key, ""))
    ]
    for each in said.get("tool_calls", []):
        chunks.append(answer_of("delta", {"tool_calls": [{**each, "function": {**each["function"], "arguments": ""}}]}))
        pieces = cut(data.draw, each["function"]["arguments"])
        chunks += [answer_of("delta", {"tool_calls": [call(each["index"], piece)]}) for piece in pieces]
    assert put_together(streamed(chunks)) == whole(said)["content"]


def test_a_long_stream_costs_the_same_for_each_piece() -> None:
    """Counted in events and in what is kept, since clocks lie on a busy machine."""
    machine = answering()
    machine.add(answer_of("delta", {"tool_calls": [call(0, "", id="c", name="look")]}))
    sizes = {len(machine.add(answer_of("delta", {"tool_calls": [call(0, "x")]}))) for _ in range(1000)}
    assert sizes == {1}
    words = answering()
    words.add(answer_of("delta", {"content": "x"}))
    assert {len(words.add(answer_of("delta", {"content": "x"}))) for _ in range(1000)} == {1}
