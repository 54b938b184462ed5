"""Templates of the common families, shortened to what they do with tools."""

from __future__ import annotations

import pytest

from handlers.chat_template import ChatTemplate
from handlers.conversation import definitions, render
from handlers.template_abilities import Abilities
from handlers.template_terms import Arguments
from handlers.types import Message, TextPart, Tool, ToolCall

QWEN = """
{%- if tools %}<|im_start|>system
# Tools
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools><|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == "assistant" and message.tool_calls %}<|im_start|>assistant
{%- if message.content %}{{ '\\n' + message.content }}{% endif %}
{%- for call in message.tool_calls %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% elif message.role == "tool" %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% else %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif %}
{%- endfor %}<|im_start|>assistant
"""
DEEPSEEK = """
{%- for message in messages %}
{%- if message['role'] == 'assistant' and message['content'] is none %}
{%- for tool in message['tool_calls'] %}{{ '<｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' +
tool['function']['name'] + '\\n```json\\n' + tool['function']['arguments'] + '\\n```<｜tool▁call▁end｜>' }}{% endfor %}
{%- elif message['role'] == 'tool' %}{{ '<｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>' }}
{%- else %}<{{ message['role'] }}>{{ message['content'] }}{% endif %}
{%- endfor %}<｜Assistant｜>"""
MISTRAL = """
{%- for message in messages %}
{%- if message['role'] == 'user' %}
{%- if tools and loop.last %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]
{%- endif %}[INST] {{ message['content'] }}[/INST]
{%- elif message['tool_calls'] %}[TOOL_CALLS] [
{%- for call in message['tool_calls'] %}
{%- if call.id | length != 9 %}{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{% endif %}
{{- call.function | tojson }}{% if not loop.last %}, {% endif %}{% endfor %}]</s>
{%- elif message['role'] == 'tool' %}[TOOL_RESULTS] {"content": {{ message['content'] }}}[/TOOL_RESULTS]
{%- else %}{{ message['content'] }}</s>{% endif %}
{%- endfor %}"""
PLAIN = "{% for m in messages %}[{{ m.role }}|{{ m.content }}]{% endfor %}"
TOOLS = definitions((Tool(name="weather", parameters='{"type": "object"}'),))


def conversation(words: str = "") -> tuple[Message, ...]:
    call = ToolCall(id="call_0123456789abcdef", name="weather", arguments='{"city": "Zürich", "days": [1]}')
    parts = (TextPart(text=words),) if words else ()
    return (
        Message(role="user", parts=(TextPart(text="How warm?"),)),
        Message(role="assistant", parts=parts, tool_calls=(call,)),
        Message(role="tool", parts=(TextPart(text="21"),), tool_call_id=call.id),
    )


@pytest.mark.parametrize(
    ("source", "abilities"),
    [
        (QWEN, Abilities(tools=True, calls=True, calls_beside_words=True)),
        (DEEPSEEK, Abilities(calls=True, wordless=None)),
        (MISTRAL, Abilities(tools=True, calls=True)),
        (PLAIN, Abilities()),
        ("{{ raise_exception('no') }}", Abilities()),
        ("{{ 1 / 0 }}", Abilities()),
    ],
)
def test_what_a_template_leaves_out_is_found_out(source: str, abilities: Abilities) -> None:
    assert ChatTemplate(source, {}).abilities == abilities


@pytest.mark.parametrize("source", [QWEN, DEEPSEEK, MISTRAL, PLAIN])
@pytest.mark.parametrize("words", ["", "Let me see."])
def test_nothing_of_a_round_of_calls_is_lost(source: str, words: str) -> None:
    text = render(ChatTemplate(source, {}), conversation(words), None, {}, TOOLS)
    for sign in ("How warm?", words, "weather", '{"city": "Zürich", "days": [1]}', "21"):
        assert sign in text


def test_a_model_s_own_form_is_used_where_it_has_one() -> None:
    assert '<tool_call>\n{"name": "weather", "arguments": {"city"' in render(ChatTemplate(QWEN, {}), conversation(), None, {})
    assert "weather\n```json\n{" in render(ChatTemplate(DEEPSEEK, {}), conversation(), None, {})
    assert '[TOOL_CALLS] [{"name": "weather", "arguments": {"city"' in render(
        ChatTemplate(MISTRAL, {}), conversation(), None, {}
    )


def test_arguments_are_an_object_and_a_text() -> None:
    arguments = Arguments(a="é")
    assert "x" + arguments + "y" == 'x{"a": "é"}y'
    assert str(arguments) == '{"a": "é"}'
    assert arguments["a"] == "é"
