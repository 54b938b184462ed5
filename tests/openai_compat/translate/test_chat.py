"""Rule 1, second half: what each known field of a chat does."""

import re
from pathlib import Path

import msgspec
import pytest

from handlers.types import Sampling, TextRequest
from openai_compat.errors import InvalidRequest, UnsupportedParameter, kind_of
from openai_compat.protocol import RelayFacts
from openai_compat.translate import chat

PAGE = (Path(__file__).parents[3] / "docs" / "compatibility.md").read_text()
SECTION = re.split(r"\n## |\n### (?!Beyond)", PAGE.split("\n## `POST /v1/chat/completions`\n")[1])[0]
OUTCOMES = dict(re.findall(r"^\| `([a-z_]+)` \| ([A-Za-z ]+?) \|", SECTION, re.MULTILINE))

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CUSTOM = {"type": "custom", "custom": {"name": "c"}}
FUNCTION = {"name": "f", "parameters": {"type": "object"}}

# field → the fields sent, and what is seen in the domain's request
HONOURED = {
    "messages": ({"messages": [{"role": "user", "content": "Hi"}]}, lambda r: r.messages[0].text == "Hi"),
    "stream": ({"stream": True}, lambda r: r.stream),
    "max_completion_tokens": ({"max_completion_tokens": 7, "max_tokens": 9}, lambda r: r.sampling.max_tokens == 7),
    "max_tokens": ({"max_tokens": 9}, lambda r: r.sampling.max_tokens == 9),
    "temperature": ({"temperature": 0}, lambda r: r.sampling.temperature == 0),
    "top_p": ({"top_p": 0.5}, lambda r: r.sampling.top_p == 0.5),
    "n": ({"n": 3}, lambda r: r.sampling.n == 3),
    "stop": ({"stop": "END"}, lambda r: r.sampling.stop == ("END",)),
    "seed": ({"seed": -(2**63)}, lambda r: r.sampling.seed == -(2**63)),
    "presence_penalty": ({"presence_penalty": 1.5}, lambda r: r.sampling.presence_penalty == 1.5),
    "frequency_penalty": ({"frequency_penalty": -1.5}, lambda r: r.sampling.frequency_penalty == -1.5),
    "logit_bias": ({"logit_bias": {"50256": -100}}, lambda r: r.sampling.logit_bias == {50256: -100.0}),
    "logprobs": ({"logprobs": True}, lambda r: r.sampling.logprobs == 0),
    "top_logprobs": ({"logprobs": True, "top_logprobs": 5}, lambda r: r.sampling.logprobs == 5),
    "reasoning_effort": ({"reasoning_effort": "low"}, lambda r: r.template_options == {"reasoning_effort": "low"}),
    "parallel_tool_calls": ({"tools": [TOOL], "parallel_tool_calls": False}, lambda r: not r.parallel_tool_calls),
    "mode": ({"mode": "creative"}, lambda r: r.mode == "creative"),
    "mode_options": ({"mode_options": {"language": "French"}}, lambda r: r.mode_options == {"language": "French"}),
    "top_k": ({"top_k": 40}, lambda r: r.sampling.top_k == 40),
    "min_p": ({"min_p": 0.1}, lambda r: r.sampling.min_p == 0.1),
    "repetition_penalty": ({"repetition_penalty": 1.2}, lambda r: r.sampling.repetition_penalty == 1.2),
    "min_tokens": ({"min_tokens": 4}, lambda r: r.sampling.min_tokens == 4),
    "ignore_eos": ({"ignore_eos": True}, lambda r: r.sampling.ignore_eos),
    "stop_token_ids": ({"stop_token_ids": [2, 3]}, lambda r: r.sampling.stop_token_ids == (2, 3)),
    "response_format": ({"response_format": {"type": "json_object"}}, lambda r: r.grammar and r.grammar.kind == "json_object"),
    "guided_json": ({"guided_json": {"type": "integer"}}, lambda r: r.grammar and r.grammar.source == '{"type":"integer"}'),
    "guided_regex": ({"guided_regex": "a+"}, lambda r: r.grammar and r.grammar.source == "a+"),
    "guided_choice": ({"guided_choice": ["a", "b"]}, lambda r: r.grammar and r.grammar.source == '["a","b"]'),
    "guided_grammar": ({"guided_grammar": 'start: "a"'}, lambda r: r.grammar and r.grammar.source == 'start: "a"'),
    "structured_outputs": ({"structured_outputs": {"regex": "a+"}}, lambda r: r.grammar and r.grammar.kind == "regex"),
    "chat_template_kwargs": (
        {"chat_template_kwargs": {"enable_thinking": False}},
        lambda r: r.template_options == {"enable_thinking": False},
    ),
}
ELSEWHERE = {"model": "the gateway finds it", "stream_options": "see test_stream"}

# field → requests that are refused, all naming it
REFUSED = {
    "tools": [{"tools": [TOOL, CUSTOM]}, {"tools": [CUSTOM], "tool_choice": "none"}],
    "tool_choice": [{"tools": [TOOL], "tool_choice": {"type": "custom", "custom": {"name": "f"}}}],
    "functions": [{"functions": [FUNCTION]}, {"functions": [FUNCTION], "function_call": "auto"}],
    "function_call": [{"function_call": {"name": "f"}}],
    "modalities": [{"modalities": ["audio"]}, {"modalities": ["text", "audio"]}],
    "audio": [{"audio": {"voice": "alloy", "format": "wav"}}],
    "web_search_options": [{"web_search_options": {}}],
    "chat_template": [{"chat_template": "{{ messages }}"}],
}
HARMLESS = {
    "tools": {"tools": []},
    "tool_choice": {"tool_choice": "auto"},
    "functions": {"functions": [FUNCTION], "function_call": "none"},
    "function_call": {"function_call": "none"},
    "modalities": {"modalities": ["text"]},
}
NO_EFFECT = {
    "prediction": {"type": "content", "content": "x"},
    "moderation": {"model": "m"},
    "metadata": {"a": "b"},
    "store": True,
    "user": "u",
    "safety_identifier": "s",
    "service_tier": "flex",
    "verbosity": "low",
    "prompt_cache_key": "k",
    "prompt_cache_options": {"ttl": "30m"},
    "prompt_cache_retention": "24h",
}


def outcome(*kinds: str) -> set[str]:
    return {field for field, kind in OUTCOMES.items() if kind in kinds}


def test_each_line_of_the_page_has_its_case_here():
    assert outcome("Honoured") == (set(HONOURED) | set(ELSEWHERE)) - {"chat_template_kwargs"}
    assert outcome("No effect") == set(NO_EFFECT)
    assert outcome("Refused", "Partly") == set(REFUSED) | {"chat_template_kwargs"}
    assert outcome("Partly") == set(HARMLESS) | {"chat_template_kwargs"}


def test_the_table_of_refusals_is_the_page():
    assert {refusal.param for refusal in chat.REFUSED} == set(REFUSED)


@pytest.mark.parametrize("field", HONOURED)
def test_an_honoured_field_reaches_the_handler(field, chat_request):
    fields, seen = HONOURED[field]
    assert not seen(chat_request(messages=[{"role": "user", "content": "?"}]))
    assert seen(chat_request(**fields))


@pytest.mark.parametrize(("field", "fields"), [(field, fields) for field, cases in REFUSED.items() for fields in cases])
def test_a_refused_field_is_a_400_that_names_it(field, fields, chat_body, facts):
    body = chat_body(**fields)
    for refuse in (chat.plan, lambda body: chat.to_request(body, facts, {})):
        with pytest.raises(UnsupportedParameter) as caught:
            refuse(body)
        assert caught.value.param == field
        assert f"'{field}'" in caught.value.message
        assert (kind_of(caught.value).status, kind_of(caught.value).code) == (400, "unsupported_parameter")


@pytest.mark.parametrize("field", HARMLESS)
def test_the_harmless_values_of_a_partly_refused_field_change_nothing(field, chat_request):
    assert chat_request(**HARMLESS[field]) == chat_request()


@pytest.mark.parametrize("field", NO_EFFECT)
def test_a_field_without_effect_is_accepted_and_has_none(field, chat_request):
    assert chat_request(**{field: NO_EFFECT[field]}) == chat_request()


def test_what_the_client_left_open_stays_open_for_the_mode(chat_request):
    assert chat_request() == TextRequest(messages=chat_request().messages, sampling=Sampling(), cache_salt="salt")


def test_the_mode_of_the_request_wins_over_the_one_in_the_models_name(chat_body):
    facts = RelayFacts(request_id="r", model="m", public_model="m:code", mode="code")
    assert chat.to_request(chat_body(), facts, {}).mode == "code"
    assert chat.to_request(chat_body(mode="creative"), facts, {}).mode == "creative"


@pytest.mark.parametrize("off", [0, -1])
def test_top_k_is_switched_off_by_zero_and_minus_one(off, chat_request):
    assert chat_request(top_k=off).sampling.top_k == 0


@pytest.mark.parametrize(("stop", "seen"), [("", ()), ([], ()), (["a", ""], ("a",)), (["a", "b"], ("a", "b")), (None, ())])
def test_stop_is_a_text_or_a_list_and_empty_texts_are_left_out(stop, seen, chat_request):
    assert chat_request(stop=stop).sampling.stop == seen


def test_top_logprobs_needs_logprobs(chat_body):
    with pytest.raises(InvalidRequest) as caught:
        chat.plan(chat_body(top_logprobs=2))
    assert caught.value.param == "top_logprobs"
    assert chat.plan(chat_body(top_logprobs=0)) == ("generate_text", "generate_image")


@pytest.mark.parametrize("name", ["chat_template", "tokenize", "add_generation_prompt", "tools", "messages", "__class__"])
def test_a_template_option_that_is_not_on_the_list_is_refused(name, chat_body):
    with pytest.raises(UnsupportedParameter) as caught:
        chat.plan(chat_body(chat_template_kwargs={name: "x"}))
    assert caught.value.param == f"chat_template_kwargs.{name}"


def test_the_clients_template_option_wins_over_reasoning_effort(chat_request):
    request = chat_request(reasoning_effort="low", chat_template_kwargs={"reasoning_effort": "high"})
    assert request.template_options == {"reasoning_effort": "high"}


def test_the_page_lists_the_template_options():
    line = next(line for line in PAGE.splitlines() if line.startswith("| `chat_template_kwargs`"))
    assert set(re.findall(r"`(\w+)`", line)[1:]) == set(chat.TEMPLATE_OPTIONS)


def test_a_plain_chat_needs_text_and_a_picture_needs_more(chat_body):
    png = "data:image/png;base64,iVBORw0KGgo="
    assert chat.plan(chat_body()) == ("generate_text", "generate_image")
    parts = [{"type": "image_url", "image_url": png}]
    assert chat.plan(chat_body(messages=[{"role": "user", "content": parts}])) == ("process_multimodal", "generate_image")


def test_the_plan_makes_every_check_of_the_messages(chat_body):
    with pytest.raises(InvalidRequest) as caught:
        chat.plan(chat_body(messages=[{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]))
    assert caught.value.param == "messages[0].content[0].file"


def test_a_request_survives_being_built_twice(chat_body, facts):
    body = chat_body(n=2, stop=["a"])
    first = msgspec.json.encode(chat.to_request(body, facts, {}))
    assert msgspec.json.encode(chat.to_request(body, facts, {})) == first
