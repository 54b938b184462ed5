"""Items become the messages that a chat would have had."""

from __future__ import annotations

import time
from typing import Any

import pytest

from openai_compat.translate.responses import read_items
from openai_compat.translate.responses.history import ABORTED, messages_of
from openai_compat.translate.responses.thoughts import seal

IMAGE = {"type": "input_image", "image_url": "data:,x"}
SHOWN = {"type": "image_url", "image_url": {"url": "data:,x", "detail": "auto"}}


def chat(*items: Any) -> list[dict[str, Any]]:
    return [placed.message for placed in messages_of(read_items(list(items)))]


def user(words: Any = "Hi") -> dict[str, Any]:
    return {"role": "user", "content": words}


def says(words: str) -> dict[str, Any]:
    return {"role": "assistant", "content": words}


def calls(call_id: str, name: str = "f", arguments: str = "{}", **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments, **more}


def gives(call_id: str, output: Any = "ok") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def thinks(words: str) -> dict[str, Any]:
    return {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": words}]}


def call(call_id: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def tool(call_id: str, content: str = "ok") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def assistant(content: str | None, *made: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **({"tool_calls": list(made)} if made else {}), **more}


def test_messages_are_messages() -> None:
    system = {"role": "system", "content": "Be brief."}
    assert chat(system, user(), says("Yes"), user([{"type": "input_text", "text": "a"}, IMAGE])) == [
        system,
        user(),
        assistant("Yes"),
        user([{"type": "text", "text": "a"}, SHOWN]),
    ]


def test_parts_of_instructions_are_paragraphs() -> None:
    parts = [{"type": "input_text", "text": "<a>"}, {"type": "input_text", "text": "<b>"}]
    assert chat({"role": "developer", "content": parts}) == [{"role": "developer", "content": "<a>\n\n<b>"}]


def test_parallel_calls_are_one_message_and_their_outputs_follow_in_order() -> None:
    expected = [user(), assistant("Look:", call("a"), call("b")), tool("a", "1"), tool("b", "2"), user("Go on")]
    assert chat(user(), says("Look:"), calls("a"), calls("b"), gives("b", "2"), gives("a", "1"), user("Go on")) == expected


def test_calls_with_their_outputs_between_them_are_messages_of_their_own() -> None:
    assert chat(calls("a"), gives("a"), calls("b"), gives("b")) == [
        assistant(None, call("a")),
        tool("a"),
        assistant(None, call("b")),
        tool("b"),
    ]


def test_reasoning_goes_with_what_it_led_to() -> None:
    assert chat(thinks("Hm."), says("Yes"), user(), thinks("Oh."), calls("a"), gives("a"), thinks("So."), says("Done")) == [
        assistant("Yes", reasoning_content="Hm."),
        user(),
        assistant(None, call("a"), reasoning_content="Oh."),
        tool("a"),
        assistant("Done", reasoning_content="So."),
    ]


def test_reasoning_that_led_to_nothing_is_left_out() -> None:
    assert chat(user(), thinks("Hm."), user("Still there?"), thinks("Oh")) == [user(), user("Still there?")]


@pytest.mark.parametrize(
    ("item", "thought"),
    [
        ({"content": [{"type": "reasoning_text", "text": "a"}, {"type": "reasoning_text", "text": "b"}]}, "ab"),
        ({"content": [], "summary": [{"text": "a"}, {"text": "b"}]}, "a\n\nb"),
        ({"content": [{"text": "told"}], "encrypted_content": seal("whole")}, "whole"),
        ({"content": [{"text": "told"}], "encrypted_content": "gAAAAABforeign"}, "told"),
        ({"encrypted_content": "r1.broken"}, None),
        ({"summary": []}, None),
    ],
)
def test_reasoning_is_read_where_it_stands_best(item, thought) -> None:
    (message,) = chat({"type": "reasoning", **item}, says("Yes"))
    assert message.get("reasoning_content") == thought


def test_words_in_the_same_breath_as_calls_are_one_message() -> None:
    assert chat(says("First."), calls("a"), says(" Then."), gives("a")) == [assistant("First. Then.", call("a")), tool("a")]


def test_answers_after_one_another_stay_apart() -> None:
    assert chat(says("One"), says("Two")) == [assistant("One"), assistant("Two")]


def test_a_call_that_a_client_left_gets_an_output_that_says_so() -> None:
    assert chat(calls("a"), user("Stop")) == [assistant(None, call("a")), tool("a", ABORTED), user("Stop")]
    assert chat(calls("a"), calls("b"), gives("b")) == [assistant(None, call("a"), call("b")), tool("a", ABORTED), tool("b")]


def test_an_output_that_comes_late_still_follows_its_call() -> None:
    assert chat(calls("a"), user("Wait"), gives("a", "late")) == [assistant(None, call("a")), tool("a", "late"), user("Wait")]


def test_ids_that_a_server_uses_again_are_no_mixture() -> None:
    assert chat(calls("a"), gives("a", "1"), calls("a"), gives("a", "2")) == [
        assistant(None, call("a")),
        tool("a", "1"),
        assistant(None, call("a")),
        tool("a", "2"),
    ]


def test_an_output_before_its_call_is_not_the_call_s() -> None:
    told = user("Output of a tool (a):\nearly")
    assert chat(gives("a", "early"), calls("a"), gives("a", "late")) == [told, assistant(None, call("a")), tool("a", "late")]
    assert chat(gives("a", "early"), calls("a")) == [told, assistant(None, call("a")), tool("a", ABORTED)]


def test_an_output_without_its_call_is_told() -> None:
    assert chat(gives("a", "42"), user()) == [user("Output of a tool (a):\n42"), user()]
    assert chat(gives("a", [IMAGE]))[0]["content"][1] == SHOWN


def test_pictures_of_an_output_follow_all_outputs() -> None:
    output = [{"type": "input_text", "text": "Seen:"}, IMAGE]
    assert chat(calls("a"), calls("b"), gives("a", output), gives("b", [IMAGE])) == [
        assistant(None, call("a"), call("b")),
        tool("a", "Seen:"),
        tool("b", "The output is in the next message."),
        user([SHOWN]),
        user([SHOWN]),
    ]


def test_custom_calls_and_names_of_namespaces_are_as_the_model_was_shown_them() -> None:
    custom = {"type": "custom_tool_call", "call_id": "a", "name": "exec", "namespace": "functions", "input": 'say "hi"\n'}
    back = {"type": "custom_tool_call_output", "call_id": "a", "output": "hi"}
    assert chat(custom, back) == [assistant(None, call("a", "functions__exec", '{"input":"say \\"hi\\"\\n"}')), tool("a", "hi")]


OTHERS = (
    "web_search_call file_search_call image_generation_call mcp_call local_shell_call tool_search_call compaction "
    "item_reference additional_tools configuration_update of_tomorrow"
)


@pytest.mark.parametrize("kind", OTHERS.split())
def test_items_of_other_servers_are_left_out(kind) -> None:
    assert chat(user(), {"type": kind, "id": "x_1"}, says("Yes")) == [user(), assistant("Yes")]


def test_a_long_answer_in_many_pieces_is_no_quadratic_work() -> None:
    def seconds(many: int) -> float:
        items = read_items([calls("a"), *[says("x" * 10_000)] * many])
        begun = time.process_time()
        messages_of(items)
        return time.process_time() - begun

    seconds(100)
    assert seconds(2000) < 1
