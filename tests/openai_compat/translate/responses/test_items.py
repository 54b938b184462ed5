"""Items are read as clients really write them, and what is wrong with them is named."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.errors import InvalidRequest
from openai_compat.translate.responses import read_items, to_turn
from openai_compat.translate.responses.items import MAX_CONTENTS
from schemas.decode import decode
from schemas.responses import MAX_ITEMS, CreateResponseRequest


def read(item: Any) -> dict[str, Any]:
    """One item, without the id that it was given."""
    found = read_items([item])[0]
    return {key: value for key, value in found.items() if key != "id"}


def fault(*items: Any) -> tuple[str | None, str | None]:
    with pytest.raises(InvalidRequest) as caught:
        read_items(list(items))
    assert len(caught.value.message) < 400
    return caught.value.param, caught.value.code


def text(words: str) -> dict[str, Any]:
    return {"type": "input_text", "text": words}


def said(words: str) -> dict[str, Any]:
    return {"type": "output_text", "text": words, "annotations": [], "logprobs": []}


def message(role: str, *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "status": "completed", "content": list(parts), **more}


def test_a_text_is_a_message_of_the_user() -> None:
    (item,) = read_items("Hello")
    assert item.pop("id").startswith("msg_")
    assert item == message("user", text("Hello"))
    assert read_items(None) == []
    assert read_items([]) == []


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"role": "user", "content": "Hi"}, message("user", text("Hi"))),
        ({"role": "developer", "content": [text("Hi")]}, message("developer", text("Hi"))),
        ({"role": "user", "content": None}, message("user")),
        ({"role": "assistant", "content": "Hi"}, message("assistant", said("Hi"))),
        ({"role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}, message("assistant", said("Hi"))),
        ({"role": "assistant", "content": [text("Hi")]}, message("assistant", said("Hi"))),
        (
            {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No"}], "phase": "commentary"},
            message("assistant", {"type": "refusal", "refusal": "No"}, phase="commentary"),
        ),
        (
            {"role": "assistant", "content": "Hi", "phase": None, "status": "incomplete"},
            {**message("assistant", said("Hi")), "status": "incomplete"},
        ),
        ({"role": "user", "content": [{"type": "text", "text": "Hi"}]}, message("user", text("Hi"))),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": "data:,x", "detail": None, "file_id": None}]},
            message("user", {"type": "input_image", "image_url": "data:,x", "detail": "auto"}),
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x", "detail": "low"}}]},
            message("user", {"type": "input_image", "image_url": "data:,x", "detail": "low"}),
        ),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]},
            message("user", {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}),
        ),
        (
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "namespace": None, "status": None},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"},
        ),
        (
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": {"a": [1]}, "namespace": "n"},
            {
                "type": "function_call",
                "call_id": "c",
                "name": "f",
                "namespace": "n",
                "arguments": '{"a":[1]}',
                "status": "completed",
            },
        ),
        (
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": None},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"},
        ),
        (
            {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": None},
            {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "", "status": "completed"},
        ),
        (
            {"type": "function_call_output", "call_id": "c", "output": {"rows": 2}},
            {"type": "function_call_output", "call_id": "c", "output": '{"rows":2}', "status": "completed"},
        ),
        (
            {"type": "function_call_output", "call_id": "c", "output": [1, {"type": "row"}]},
            {"type": "function_call_output", "call_id": "c", "output": '[1,{"type":"row"}]', "status": "completed"},
        ),
        (
            {"type": "function_call_output", "call_id": "c", "output": []},
            {"type": "function_call_output", "call_id": "c", "output": "[]", "status": "completed"},
        ),
        (
            {"type": "custom_tool_call_output", "call_id": "c", "output": [text("a")]},
            {"type": "custom_tool_call_output", "call_id": "c", "output": [text("a")], "status": "completed"},
        ),
        ({"type": "reasoning", "summary": None}, {"type": "reasoning", "summary": []}),
        (
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "a"}],
                "content": None,
                "encrypted_content": "x",
            },
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}], "encrypted_content": "x"},
        ),
        ({"id": "msg_1"}, {"type": "item_reference"}),
        ({"id": "msg_1", "type": None}, {"type": "item_reference"}),
        ({"type": "item_reference", "id": "msg_1"}, {"type": "item_reference"}),
        ({"type": "web_search_call", "status": "completed", "action": {"q": 1}},) * 2,
        ({"type": "compaction", "encrypted_content": "x"},) * 2,
        ({"type": "of_tomorrow", "deep": [[[]]]},) * 2,
    ],
)
def test_an_item_is_read_as_it_was_meant(written, expected) -> None:
    assert read(written) == expected


def test_ids_stay_and_missing_ones_are_made() -> None:
    assert read_items([{"role": "user", "content": "", "id": "msg_mine"}])[0]["id"] == "msg_mine"
    made = [read_items([{"role": "user", "content": "", "id": None}])[0]["id"] for _ in range(2)]
    assert made[0] != made[1]


@pytest.mark.parametrize(
    ("item", "param"),
    [
        (1, "input[0]"),
        ("Hi", "input[0]"),
        (None, "input[0]"),
        ([], "input[0]"),
        ({}, "input[0].type"),
        ({"content": "a"}, "input[0].type"),
        ({"type": 1}, "input[0].type"),
        ({"type": ""}, "input[0].type"),
        ({"type": "x" * 257}, "input[0].type"),
        ({"type": "message"}, "input[0].role"),
        ({"role": None}, "input[0].role"),
        ({"role": "tool", "content": "a"}, "input[0].role"),
        ({"role": ["user"], "content": "a"}, "input[0].role"),
        ({"role": "user", "content": 1}, "input[0].content"),
        ({"role": "user", "content": {}}, "input[0].content"),
        ({"role": "user", "content": ["a"]}, "input[0].content[0]"),
        ({"role": "user", "content": [{}]}, "input[0].content[0].type"),
        ({"role": "user", "content": [text("a"), {"type": "input_text"}]}, "input[0].content[1].text"),
        ({"role": "user", "content": [{"type": "input_text", "text": 1}]}, "input[0].content[0].text"),
        ({"role": "user", "content": [{"type": "refusal", "refusal": "a"}]}, "input[0].content[0].type"),
        ({"role": "user", "content": [{"type": "input_video"}]}, "input[0].content[0].type"),
        ({"role": "user", "content": [{"type": "input_image"}]}, "input[0].content[0].image_url"),
        ({"role": "user", "content": [{"type": "input_image", "image_url": 1}]}, "input[0].content[0].image_url"),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}, "input[0].content[0].file_id"),
        ({"role": "user", "content": [{"type": "input_image", "image_url": "a", "detail": 1}]}, "input[0].content[0].detail"),
        ({"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}, "input[0].content[0]"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "input[0].content[0].input_audio"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "input[0].content[0].input_audio.data"),
        ({"role": "user", "content": [text("a")] * 1025}, "input[0].content"),
        ({"role": "assistant", "content": [{"type": "input_image", "image_url": "a"}]}, "input[0].content[0].type"),
        ({"role": "user", "content": "a", "id": 1}, "input[0].id"),
        ({"role": "user", "content": "a", "id": ""}, "input[0].id"),
        ({"role": "user", "content": "a", "id": "x" * 129}, "input[0].id"),
        ({"type": "function_call", "name": "f"}, "input[0].call_id"),
        ({"type": "function_call", "call_id": "c"}, "input[0].name"),
        ({"type": "function_call", "call_id": "c", "name": "f" * 257}, "input[0].name"),
        ({"type": "function_call", "call_id": "c", "name": "f", "namespace": 1}, "input[0].namespace"),
        ({"type": "custom_tool_call", "call_id": "c", "name": "f", "input": {}}, "input[0].input"),
        ({"type": "function_call_output", "output": "a"}, "input[0].call_id"),
        ({"type": "function_call_output", "call_id": "c", "output": [{"type": "input_file"}]}, "input[0].output[0]"),
        ({"type": "reasoning", "summary": 1}, "input[0].summary"),
        ({"type": "reasoning", "summary": [1]}, "input[0].summary[0]"),
        ({"type": "reasoning", "summary": [{}]}, "input[0].summary[0].text"),
        ({"type": "reasoning", "summary": [], "content": [{"text": 1}]}, "input[0].content[0].text"),
        ({"type": "reasoning", "summary": [], "encrypted_content": 1}, "input[0].encrypted_content"),
        ({"type": "item_reference"}, "input[0].id"),
    ],
)
def test_what_is_wrong_with_an_item_is_named(item, param) -> None:
    assert fault(item)[0] == param


def test_the_place_of_a_fault_is_the_place_in_the_list() -> None:
    good = {"role": "user", "content": "a"}
    assert fault(good, good, {"role": "user", "content": [text("a"), 1]})[0] == "input[2].content[1]"


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "item",
    [
        {"type": "of_tomorrow", "deep": deep(100)},
        {"type": "of_tomorrow", "wide": [[]] * 60_000},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": {"a": deep(400)}},
        {"type": "function_call_output", "call_id": "c", "output": deep(400)},
    ],
    ids=["deep", "wide", "arguments", "output"],
)
def test_what_is_deep_or_has_too_many_parts_is_refused(item) -> None:
    assert fault(item)[1] == "invalid_value"


def test_there_are_only_so_many_items_and_parts() -> None:
    item = {"role": "user", "content": "a"}
    assert fault(*[item] * (MAX_ITEMS + 1))[0] == "input"
    many = {"role": "user", "content": [text("a")] * 1000}
    assert fault(*[many] * (MAX_CONTENTS // 1000 + 1))[0] == "input"


@pytest.mark.parametrize(
    "item",
    [
        {"type": "of_tomorrow", "wide": [1] * 1000},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": {"wide": [1] * 1000}},
        {"type": "function_call_output", "call_id": "c", "output": [1] * 1000},
        {"type": "reasoning", "summary": [{"text": "a"}] * 1000},
        {"type": "additional_tools", "tools": [{"type": "x", "wide": [1] * 1000}]},
    ],
)
def test_what_is_allowed_once_is_not_allowed_any_number_of_times(item) -> None:
    read_items([item])
    assert fault(*[item] * 2000)[0] == "input"


def test_the_largest_input_is_read_in_no_time() -> None:
    items = [{"role": "user", "content": [text("a")] * 4} for _ in range(MAX_ITEMS)]
    begun = time.process_time()
    read_items(items)
    assert time.process_time() - begun < 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "user", "assistant", "a", "c1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "image_url", "id", "output", "content"]), inner, max_size=3)
    ),
    max_leaves=6,
)
TYPES = [
    "message",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "reasoning",
    "item_reference",
    "additional_tools",
    "web_search_call",
    "compaction",
    None,
]
KEYS = [
    "role",
    "content",
    "call_id",
    "name",
    "arguments",
    "output",
    "input",
    "summary",
    "encrypted_content",
    "id",
    "tools",
    "status",
]
ITEMS = st.lists(
    st.builds(lambda kind, rest: {"type": kind, **rest}, st.sampled_from(TYPES), st.dictionaries(st.sampled_from(KEYS), JSON)),
    max_size=4,
)


@given(items=ITEMS)
def test_nonsense_is_refused_or_becomes_a_chat_that_can_be_written(items) -> None:
    request = decode(json.dumps({"model": "m", "input": items}).encode(), CreateResponseRequest)
    read = turn = None
    try:
        read = read_items(request.input)
        turn = to_turn(request, [], read)
    except InvalidRequest as error:
        read = None if error.param else read
    if read is None:
        return
    assert all(isinstance(item["id"], str) and isinstance(item["type"], str) for item in read)
    msgspec.json.encode([read, turn.chat])
    assert len(turn.places) == len(turn.chat["messages"])


@given(items=ITEMS)
def test_what_was_read_reads_the_same_again(items) -> None:
    """So what is listed can be sent back."""
    try:
        once = read_items(items)
    except InvalidRequest:
        return
    assert read_items(json.loads(json.dumps(once))) == once
