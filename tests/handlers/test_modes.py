from __future__ import annotations

from pathlib import Path

import pytest

from handlers import mode_table
from handlers import types as t
from handlers.deferred import complete
from handlers.echo import EchoHandler
from handlers.modes import fill
from handlers.registry import KINDS, resolve
from handlers.text_modes import TEXT_MODES
from openai_compat.errors import InvalidRequest, UnsupportedMode

DOT = t.Picture(width=1, height=1, pixels=b"\0\0\0")
INPUT = "Hi fox"
RENDERED = {
    "auto": "<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n",
    "chat": "<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n",
    "complete": "{text}",
}
WITH_SYSTEM = "<|im_start|>system\n{system}<|im_end|>\n" + RENDERED["chat"]


def user(text: str = INPUT, **fields) -> t.TextRequest:
    return t.TextRequest(messages=(message("user", text),), **fields)


def message(role: t.Role, text: str) -> t.Message:
    return t.Message(role=role, parts=(t.TextPart(text=text),))


@pytest.fixture
def roomy(tiny, monkeypatch):
    """The tiny model with room for long mode prompts; only rendering is looked at."""
    monkeypatch.setattr(tiny._prompts, "_context_length", 100_000)
    return tiny


@pytest.fixture
def roomy_base(base, monkeypatch):
    monkeypatch.setattr(base._prompts, "_context_length", 100_000)
    return base


def rendered(handler, request: t.TextRequest) -> str:
    return handler.prepare_inputs(handler.apply_mode_settings(request))[0].text


# ---------------------------------------------------------------- each mode, as it arrives at the model


@pytest.mark.parametrize("name", TEXT_MODES)
def test_each_mode_renders_its_system_prompt_and_template(roomy, name: str) -> None:
    mode = TEXT_MODES[name]
    values = {**mode.variables, "input": INPUT}
    text = fill(mode.template, values) if mode.template else INPUT
    system = fill(mode.system_prompt, values) if mode.system_prompt else ""
    assert rendered(roomy, user(mode=name)) == RENDERED.get(name, WITH_SYSTEM).format(text=text, system=system)


@pytest.mark.parametrize("name", TEXT_MODES)
def test_each_modes_sampling_is_effective_where_the_client_says_nothing(roomy, name: str) -> None:
    mode = TEXT_MODES[name]
    config = roomy.get_generation_config(roomy.apply_mode_settings(user(mode=name)))
    assert config.temperature == (1.0 if mode.temperature is None else mode.temperature)
    assert config.top_p == (1.0 if mode.top_p is None else mode.top_p)
    assert config.repetition_penalty == (mode.repetition_penalty or 1.0)


@pytest.mark.parametrize("name", TEXT_MODES)
def test_each_request_field_beats_each_mode(roomy, name: str) -> None:
    asked = t.Sampling(temperature=0.77, top_p=0.33, top_k=5, repetition_penalty=1.5, max_tokens=9)
    config = roomy.get_generation_config(roomy.apply_mode_settings(user(mode=name, sampling=asked)))
    assert (config.temperature, config.top_p, config.top_k) == (0.77, 0.33, 5)
    assert (config.repetition_penalty, config.max_tokens) == (1.5, 9)


@pytest.mark.parametrize("name", [name for name in TEXT_MODES if name not in ("auto", "complete")])
def test_each_mode_works_without_a_chat_template(roomy_base, name: str) -> None:
    mode = TEXT_MODES[name]
    values = {**mode.variables, "input": INPUT}
    text = fill(mode.template, values) if mode.template else INPUT
    system = f"System: {fill(mode.system_prompt, values)}\n\n" if mode.system_prompt else ""
    request = roomy_base.apply_mode_settings(user(mode=name))
    assert roomy_base.prepare_inputs(request)[0].text == f"{system}User: {text}\n\nAssistant:"
    assert "\nUser:" in roomy_base.get_generation_config(request).stop


def test_a_mode_answers_through_the_verb(roomy, collector) -> None:
    request = roomy.apply_mode_settings(user(mode="instruct", sampling=t.Sampling(max_tokens=3, logit_bias={70: 100.0})))
    result = complete(roomy.generate_text(request, collector()))
    assert result.choices[0].text == roomy._lm.vocabulary.token_text(70) * 3


# ---------------------------------------------------------------- the rules


def test_auto_is_chat_with_a_template_and_complete_without(tiny, base) -> None:
    assert tiny.apply_mode_settings(user()).mode == "chat"
    assert base.apply_mode_settings(user()).mode == "complete"
    assert base.prepare_inputs(base.apply_mode_settings(user()))[0].text == INPUT


def test_auto_is_complete_for_prompts(tiny) -> None:
    request = tiny.apply_mode_settings(t.TextRequest(prompts=("The fox",)))
    assert request.mode == "complete"
    assert tiny.prepare_inputs(request)[0].text == "The fox"


def test_auto_is_multimodal_for_pictures_where_the_handler_has_it(tiny) -> None:
    picture = t.Message(role="user", parts=(t.ImagePart(picture=DOT),))
    request = t.TextRequest(messages=(picture,))
    assert EchoHandler(t.ModelSpec(id="e", path="", kind="echo")).apply_mode_settings(request).mode == "multimodal"
    assert tiny.apply_mode_settings(request).mode == "chat"


def test_complete_continues_the_last_user_text_of_a_chat(tiny) -> None:
    messages = (message("system", "ignored"), message("user", "one"), message("assistant", "two"), message("user", "three"))
    assert rendered(tiny, t.TextRequest(messages=messages, mode="complete")) == "three"


def test_the_client_s_system_message_follows_the_mode_s(roomy) -> None:
    messages = (message("system", "Be brief."), message("user", INPUT), message("system", "Be kind."))
    text = rendered(roomy, t.TextRequest(messages=messages, mode="creative"))
    system = TEXT_MODES["creative"].system_prompt
    assert text.startswith(f"<|im_start|>system\n{system}\n\nBe brief.\n\nBe kind.<|im_end|>\n<|im_start|>user\n{INPUT}<")


def test_a_system_prompt_of_the_request_replaces_the_mode_s(tiny) -> None:
    assert tiny.apply_mode_settings(user(mode="code", system_prompt="Mine.")).system_prompt == "Mine."


def test_a_template_changes_the_last_user_text_only(roomy) -> None:
    messages = (message("user", "first"), message("assistant", "answer"), message("user", "second"))
    applied = roomy.apply_mode_settings(t.TextRequest(messages=messages, mode="summarize"))
    assert [m.text for m in applied.messages[:2]] == ["first", "answer"]
    assert applied.messages[2].text == "Summarize the following text in a few sentences:\n\nsecond"


def test_each_prompt_of_a_completion_becomes_a_turn_in_a_mode_with_a_template(roomy) -> None:
    request = roomy.apply_mode_settings(t.TextRequest(prompts=("one", "two"), mode="summarize"))
    texts = [prompt.text for prompt in roomy.prepare_inputs(request)]
    assert [text.count("<|im_start|>user\nSummarize") for text in texts] == [1, 1]
    assert "two" in texts[1]


def test_pictures_stay_beside_a_templated_text() -> None:
    handler = EchoHandler(t.ModelSpec(id="e", path="", kind="echo"))
    parts = (t.TextPart(text="what "), t.ImagePart(picture=DOT), t.TextPart(text="is it"))
    request = handler.apply_mode_settings(t.TextRequest(messages=(t.Message(role="user", parts=parts),), mode="shout"))
    assert request.messages[0].parts == (t.ImagePart(picture=DOT), t.TextPart(text="!what is it!"))


def test_options_fill_the_template_and_the_system_prompt(roomy) -> None:
    text = rendered(roomy, user(mode="translate", mode_options={"target_language": "French"}))
    assert "translation into French" in text
    assert "from the language it is written in into French:\n\nHi fox" in text


def test_braces_in_a_client_s_text_stay_as_they_are(roomy) -> None:
    text = rendered(roomy, user("{target_language} {input} {0.__class__} {", mode="translate"))
    assert "{target_language} {input} {0.__class__} {" in text


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (user(mode="translate", mode_options={"tone": "x"}), "mode_options.tone"),
        (user(mode_options={"target_language": "x"}), "mode_options.target_language"),
        (user(mode="translate", mode_options={"target_language": "x" * 2000}), "mode_options.target_language"),
        (user("  ", mode="summarize"), "messages"),
        (t.TextRequest(messages=(message("system", "x"),), mode="code"), "messages"),
        (t.TextRequest(prompts=("",), mode="code"), "prompt"),
        (t.TextRequest(prompts=((1, 2),), mode="summarize"), "prompt"),
    ],
)
def test_wrong_options_and_missing_input_are_refused_by_field(tiny, request_: t.TextRequest, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        tiny.apply_mode_settings(request_)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "request_",
    [t.TextRequest(prompts=((1, 2),), mode="instruct"), t.TextRequest(messages=(message("system", "x"),), mode="complete")],
)
def test_input_that_the_mode_cannot_render_is_refused(tiny, request_: t.TextRequest) -> None:
    with pytest.raises(InvalidRequest) as caught:
        rendered(tiny, request_)
    assert caught.value.param == request_.prompt_param


def test_a_mode_that_the_model_lacks_names_those_it_has(tiny) -> None:
    with pytest.raises(UnsupportedMode, match="auto, chat, complete") as caught:
        tiny.apply_mode_settings(user(mode="image"))
    assert caught.value.param == "mode"


def test_a_mode_s_template_applies_to_other_verbs_too() -> None:
    handler = EchoHandler(t.ModelSpec(id="e", path="", kind="echo"))
    assert handler.apply_mode_settings(t.ImageRequest(prompt="cat", mode="shout")).prompt == "!cat!"
    assert handler.apply_mode_settings(t.SpeechRequest(text="hi", mode="shout")).text == "!hi!"
    with pytest.raises(InvalidRequest) as caught:
        handler.apply_mode_settings(t.SpeechRequest(text=" ", mode="shout"))
    assert caught.value.param == "input"


# ---------------------------------------------------------------- written down


def test_the_nine_modes_are_all_there() -> None:
    nine = ["auto", "chat", "complete", "instruct", "creative", "code", "analyze", "translate", "summarize"]
    assert list(TEXT_MODES) == nine


def test_the_page_on_modes_shows_every_table_as_it_is() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "modes.md").read_text(encoding="utf-8")
    for kind in KINDS:
        assert mode_table.markdown(resolve(kind).modes) in page, "run: python -m handlers.mode_table docs/modes.md"
    assert mode_table.updated(page) == page
