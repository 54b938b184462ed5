from __future__ import annotations

import pytest

from handlers import chat_template
from handlers.chat_template import ChatTemplate, Refusal
from openai_compat.errors import InvalidRequest, ModelUnavailable

HELLO = [{"role": "user", "content": "hello"}]


def render(source: str, messages=HELLO, options=None, tokens=None) -> str:
    return ChatTemplate(source, tokens or {}).render(messages, options or {})


def test_it_renders_as_transformers_does(tiny) -> None:
    messages = [{"role": "system", "content": "a"}, *HELLO]
    expected = tiny._lm.vocabulary.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert tiny._lm.template.render(messages, {}) == expected


def test_the_helpers_that_templates_rely_on_are_there() -> None:
    source = (
        "{{ bos_token }}{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}"
        "{% generation %}{{ m | tojson }}{% endgeneration %}{% endfor %}{{ strftime_now('%Y') | length }}"
        "{% set ns = namespace(x=1) %}{% set ns.x = 2 %}{{ ns.x }}{{ tools is none }}"
    )
    assert render(source, HELLO * 2, tokens={"bos_token": "<s>"}) == '<s>{"role": "user", "content": "hello"}42True'


def test_options_reach_the_template() -> None:
    assert render("{{ enable_thinking }}", options={"enable_thinking": False}) == "False"


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt", "bos_token", "raise_exception"])
def test_options_cannot_replace_what_the_server_says(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        render("{{ messages }}", options={name: "x"}, tokens={"bos_token": "<s>"})
    assert caught.value.param == f"chat_template_kwargs.{name}"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ missing.attribute }}",
        "{{ 1 / 0 }}",
        "{{ messages[7].content.x }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_a_template_that_reaches_out_or_breaks_is_the_model_s_fault_and_tells_nothing(source: str) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        render(source)
    assert caught.value.message == "The model's chat template failed on these messages."


def test_a_template_that_does_not_compile_is_the_model_s_fault() -> None:
    with pytest.raises(ModelUnavailable, match="broken"):
        ChatTemplate("{% for %}", {})


def test_a_refusal_is_told_apart() -> None:
    with pytest.raises(Refusal):
        render("{{ raise_exception('no system here') }}")


def test_output_is_cut_off_when_it_outgrows_its_input() -> None:
    grow = "{% for i in range(99999) %}{% for j in range(99999) %}{{ 'x' * 1000 }}{% endfor %}{% endfor %}"
    with pytest.raises(InvalidRequest) as caught:
        render(grow)
    assert caught.value.param == "messages"


def test_a_template_that_takes_too_long_is_cut_off(monkeypatch) -> None:
    monkeypatch.setattr(chat_template, "SECONDS", -1.0)
    with pytest.raises(InvalidRequest):
        render("{{ messages[0].content }}")


def test_a_large_input_is_no_reason_to_refuse() -> None:
    text = "x" * (2 << 20)
    assert render("{{ messages[0].content }}", [{"role": "user", "content": text}]) == text
