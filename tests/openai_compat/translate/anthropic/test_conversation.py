"""What a chat's messages are made of, block by block."""

from __future__ import annotations

import json
from typing import Any

import pytest

from openai_compat.errors import InvalidRequest
from openai_compat.translate.anthropic.conversation import MOST_BLOCKS

PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
URL = {"type": "url", "url": "https://example.com/a.png"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "é"}}
ASKED = {"role": "user", "content": "Look!"}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def result(content: Any = "seen", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "toolu_1", "content": content, **more}


def round_of(*content: dict[str, Any]) -> list[dict[str, Any]]:
    """A question, a call, and what the user's side says to it."""
    return [ASKED, {"role": "assistant", "content": [CALL]}, {"role": "user", "content": list(content)}]


def test_words_are_the_same_as_a_text_and_as_a_block(ask) -> None:
    plain = [{"role": "user", "content": "Hi"}]
    assert ask("Hi").chat["messages"] == plain
    assert ask([text("Hi", cache_control={"type": "ephemeral"})]).chat["messages"] == plain


def test_blocks_of_a_user_are_paragraphs_and_those_of_an_answer_are_joined_as_they_were_written(ask) -> None:
    messages = [
        {"role": "user", "content": [text("A"), text(""), text("B")]},
        {"role": "assistant", "content": [text("one, "), text("two")]},
        ASKED,
    ]
    assert [message["content"] for message in ask(messages=messages).chat["messages"]] == ["A\n\nB", "one, two", "Look!"]


def test_neighbours_of_one_side_are_one_message(ask) -> None:
    messages = [{"role": "user", "content": "A"}, {"role": "user", "content": [text("B")]}]
    assert ask(messages=messages).chat["messages"] == [{"role": "user", "content": "A\n\nB"}]


def test_pictures_stand_among_the_words_where_they_stood(ask) -> None:
    content = [text("See"), text("this:"), {"type": "image", "source": PNG}, text("and"), {"type": "image", "source": URL}]
    assert ask(content).chat["messages"][0]["content"] == [
        text("See\n\nthis:"),
        PICTURE,
        text("and"),
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]


def test_a_round_of_a_tool_becomes_a_call_and_a_result(ask) -> None:
    messages = ask(messages=round_of(text("Well?"), result([text("A"), text("B")]))).chat["messages"]
    assert messages[1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "toolu_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"é"}'}},
        ],
    }
    assert messages[2:] == [
        {"role": "tool", "tool_call_id": "toolu_1", "content": "A\n\nB"},
        {"role": "user", "content": "Well?"},
    ]


def test_results_that_come_in_two_messages_all_stand_behind_their_calls(ask) -> None:
    second = {**CALL, "id": "toolu_2"}
    messages = [
        ASKED,
        {"role": "assistant", "content": [CALL, second]},
        {"role": "user", "content": [result(), text("Go on.")]},
        {"role": "user", "content": [{**result("more"), "tool_use_id": "toolu_2"}]},
    ]
    roles = [(m["role"], m.get("tool_call_id")) for m in ask(messages=messages).chat["messages"]]
    assert roles == [("user", None), ("assistant", None), ("tool", "toolu_1"), ("tool", "toolu_2"), ("user", None)]


def test_pictures_in_a_result_follow_as_the_user_s(ask) -> None:
    messages = ask(messages=round_of(result([{"type": "image", "source": PNG}]), text("Well?"))).chat["messages"]
    assert messages[2]["role"] == "tool"
    assert "pictures" in messages[2]["content"]
    assert messages[3] == {"role": "user", "content": [PICTURE, text("Well?")]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("No such file", "Error: No such file"),
        ("error: x", "error: x"),
        (None, "Error: the tool failed."),
        ([], "Error: the tool failed."),
    ],
)
def test_a_failure_is_told_in_words(ask, content: Any, said: str) -> None:
    assert ask(messages=round_of(result(content, is_error=True))).chat["messages"][2]["content"] == said


def test_a_document_of_text_and_a_search_result_are_marked_as_what_they_are(ask) -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "Body"}
    found = {"type": "search_result", "source": "https://x", "title": "T", "content": [text("Found")]}
    content = [{"type": "document", "source": source, "title": "Name"}, found]
    assert ask(content).chat["messages"][0]["content"] == (
        "<document>\nName\nBody\n</document>\n\n<search_result>\nT\nhttps://x\nFound\n</search_result>"
    )


def test_a_document_may_hold_blocks(ask) -> None:
    source = {"type": "content", "content": [text("Words"), {"type": "image", "source": PNG}]}
    assert ask([{"type": "document", "source": source}]).chat["messages"][0]["content"] == [text("Words"), PICTURE]


def test_an_instruction_in_mid_conversation_stays_where_it_is(ask) -> None:
    messages = [{"role": "user", "content": "A"}, {"role": "system", "content": [text("Be brief.")]}]
    turn = ask(messages=messages, system="First.")
    assert turn.chat["messages"] == [
        {"role": "system", "content": "First."},
        {"role": "user", "content": "A\n\n<system-reminder>\nBe brief.\n</system-reminder>"},
    ]


def test_an_instruction_before_any_word_belongs_to_the_system_text(ask) -> None:
    messages = [{"role": "system", "content": "Second."}, ASKED]
    assert ask(messages=messages, system="First.").chat["messages"][0]["content"] == "First.\n\nSecond."


def test_an_instruction_for_one_turn_is_gone_in_the_next(ask) -> None:
    brief = {"role": "system", "content": "Be brief.", "clear_at": "next_user_message"}
    first = [{"role": "user", "content": "A"}, brief]
    assert "Be brief." in json.dumps(ask(messages=first).chat)
    later = [*first, {"role": "assistant", "content": "B"}, {"role": "user", "content": "C"}]
    assert "Be brief." not in json.dumps(ask(messages=later).chat)


def test_thoughts_are_handed_back_and_those_that_only_others_can_read_are_not(ask) -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    blocks = [{"type": "redacted_thinking", "data": "x"}, thought, text("Yes.")]
    messages = [ASKED, {"role": "assistant", "content": blocks}, ASKED]
    assert ask(messages=messages).chat["messages"][1] == {
        "role": "assistant",
        "content": "Yes.",
        "reasoning_content": "Hm.",
    }


def test_blocks_of_tools_that_others_ran_are_left_out(ask) -> None:
    blocks = [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
        {"type": "fallback", "from": {}, "to": {}},
        text("Found."),
    ]
    messages = [ASKED, {"role": "assistant", "content": blocks}, ASKED]
    assert ask(messages=messages).chat["messages"][1] == {"role": "assistant", "content": "Found."}


@pytest.mark.parametrize("inner", [1, 1000])
def test_blocks_and_those_in_them_end_somewhere(ask, inner: int) -> None:
    block = result([text("x")] * inner) if inner > 1 else text("x")
    messages = [ASKED, {"role": "assistant", "content": [CALL]}]
    most = MOST_BLOCKS // (inner + 1 if inner > 1 else 1)
    messages += [{"role": "user", "content": [block] * 10}] * (most // 10)
    with pytest.raises(InvalidRequest, match="blocks"):
        ask(messages=[*messages, {"role": "user", "content": [block] * 10}])
    assert ask(messages=messages[:3]).chat["messages"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (
            {"content": [{"type": "document", "source": {**PNG, "media_type": "application/pdf"}}]},
            "messages[0].content[0].source",
        ),
        ({"content": [{"type": "document", "source": {"type": "file", "file_id": "f"}}]}, "messages[0].content[0].source"),
        ({"content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}, "messages[0].content[0].source"),
        ({"content": [text("A"), result()]}, "messages[0].content[1].tool_use_id"),
        ({"content": [CALL]}, "messages[0].content[0]"),
        ({"messages": [ASKED, {"role": "assistant", "content": "I"}]}, "messages[1]"),
        (
            {"messages": [{"role": "assistant", "content": [CALL]}, {"role": "assistant", "content": [result()]}]},
            "messages[1].content[0]",
        ),
        ({"content": ""}, "messages"),
        ({"content": [{"type": "image", "source": {**PNG, "media_type": "x"}}]}, "messages[0].content[0].source.media_type"),
        ({"content": [{"type": "picture"}]}, "messages[0].content[0].type"),
        ({"content": [{"type": "text"}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(ask, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(**fields)
    assert caught.value.param == param
