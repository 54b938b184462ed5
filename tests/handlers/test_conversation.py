from __future__ import annotations

import pytest

from handlers.chat_template import ChatTemplate
from handlers.conversation import definitions, render
from handlers.types import Message, TextPart, Tool, ToolCall
from openai_compat.errors import InvalidRequest

SHOW = "{% for m in messages %}[{{ m.role }}|{{ m.content }}]{% endfor %}"
TOOLS = (
    "{% for m in messages %}{% if m.role == 'tool' %}[result {{ m.tool_call_id }} {{ m.content }}]{% elif m.tool_calls %}"
    "{% for c in m.tool_calls %}[call {{ c.function.name }} {{ c.function.arguments.items() | list }}]{% endfor %}"
    "{% else %}[{{ m.role }}|{{ m.content }}]{% endif %}{% endfor %}"
)
STRICT = (
    "{% for m in messages %}{% if m.role == 'system' or (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}[{{ m.role }}|{{ m.content }}]{% endfor %}"
)


def say(role, text: str = "", **fields) -> Message:
    return Message(role=role, parts=(TextPart(text=text),) if text else (), **fields)


def called(arguments: str = '{"city": "Paris"}') -> tuple[Message, ...]:
    call = ToolCall(id="call_1", name="weather", arguments=arguments)
    return (say("user", "how warm?"), say("assistant", tool_calls=(call,)), say("tool", "21", tool_call_id="call_1"))


def shown(source: str | None, messages: tuple[Message, ...], system: str | None = None, **more) -> str:
    return render(ChatTemplate(source, {}) if source else None, messages, system, {}, **more)


def test_all_system_messages_become_one_at_the_front_after_the_mode_s() -> None:
    messages = (say("user", "a"), say("system", "late"), say("assistant", "b"), say("system", "later"), say("user", "c"))
    assert shown(SHOW, messages, "mode") == "[system|mode\n\nlate\n\nlater][user|a][assistant|b][user|c]"


def test_parts_of_text_are_joined() -> None:
    message = Message(role="user", parts=(TextPart(text="a"), TextPart(text="b")))
    assert shown(SHOW, (message,)) == "[user|ab]"


def test_a_template_that_knows_tools_gets_arguments_as_an_object() -> None:
    assert shown(TOOLS, called()) == "[user|how warm?][call weather [('city', 'Paris')]][result call_1 21]"


@pytest.mark.parametrize("arguments", ["", "not json", "[1]", "null", "[" * 100_000])
def test_arguments_that_are_no_object_become_an_empty_one(arguments: str) -> None:
    assert "[call weather []]" in shown(TOOLS, called(arguments))


def test_a_template_without_tools_gets_calls_and_results_as_text() -> None:
    assert shown(SHOW, called()) == (
        '[user|how warm?][assistant|<tool_call>{"name": "weather", "arguments": {"city": "Paris"}}</tool_call>]'
        "[user|<tool_response>\n21\n</tool_response>]"
    )


def test_a_template_that_refuses_gets_the_plain_form() -> None:
    messages = (say("system", "s"), say("user", "a"), say("user", "b"), say("assistant", "c"), *called())
    plain = shown(STRICT, messages)
    assert plain.startswith("[user|s\n\na\n\nb][assistant|c][user|how warm?][assistant|<tool_call>")


def test_a_conversation_that_is_refused_even_so_is_a_client_error() -> None:
    with pytest.raises(InvalidRequest) as caught:
        shown(STRICT, (say("assistant", "first"),))
    assert caught.value.param == "messages"
    assert "alternate" not in caught.value.message


def test_without_a_template_the_conversation_is_written_in_paragraphs() -> None:
    text = shown(None, (say("user", "a"), say("assistant", "b"), say("user", "c")), "s")
    assert text == "System: s\n\nUser: a\n\nAssistant: b\n\nUser: c\n\nAssistant:"


def test_reasoning_and_names_reach_the_template() -> None:
    """Some templates look for reasoning under one name, and some under the other, which transformers gives it too."""
    source = "{{ messages[0].name }} {{ messages[0].reasoning_content }} {{ messages[0].thinking }}"
    assert shown(source, (say("assistant", "x", name="Ann", reasoning="because"),)) == "Ann because because"


WEATHER = definitions((Tool(name="weather", description="How warm?", parameters='{"type": "object"}'),))
LISTED = (
    "You may call these functions to help with the user's request:\n<tools>\n"
    '{"type": "function", "function": {"name": "weather", "description": "How warm?", "parameters": {"type": "object"}}}\n'
    "</tools>\n"
)


def test_a_template_that_takes_tools_gets_their_definitions_and_no_words_about_them() -> None:
    source = "{% for t in tools or [] %}({{ t.function.name }} {{ t.function.parameters.type }}){% endfor %}" + SHOW
    assert shown(source, (say("user", "a"),), tools=WEATHER) == "(weather object)[user|a]"
    assert shown(source, (say("user", "a"),)) == "[user|a]"


def test_a_template_that_takes_no_tools_gets_them_at_the_end_of_the_system_text() -> None:
    messages = (say("system", "client"), say("user", "a"))
    text = shown(SHOW, messages, "mode", tools=WEATHER)
    assert text.startswith(f"[system|mode\n\nclient\n\n{LISTED}")
    assert '<tool_call>\n{"name": "<name>", "arguments": {<arguments>}}\n</tool_call>][user|a]' in text


def test_a_required_call_is_asked_for_as_json_alone() -> None:
    text = shown(None, (say("user", "a"),), tools=WEATHER, forced=True)
    assert text.startswith(f"System: {LISTED}")
    assert "<tool_call>" not in text
    assert text.endswith("\n\nUser: a\n\nAssistant:")


def test_ids_are_shortened_for_a_template_that_wants_nine_letters() -> None:
    strict = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{% if c.id | length != 9 %}{{ raise_exception('9 letters') }}"
        "{% endif %}[{{ c.id }} {{ c.function.name }} {{ c.function.arguments }}]{% endfor %}"
        "{% if m.role == 'tool' %}[{{ m.tool_call_id }}|{{ m.content }}]{% endif %}{% endfor %}"
    )
    text = shown(strict, called())
    assert text == f'[{text[1:10]} weather {{"city": "Paris"}}][{text[1:10]}|21]'
    assert text[1:10].isalnum()
