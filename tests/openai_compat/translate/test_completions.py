"""Rule 1 for legacy completions."""

import re
from pathlib import Path

import pytest

from openai_compat.errors import InvalidRequest, UnsupportedParameter
from openai_compat.protocol import RelayFacts
from openai_compat.translate import completions

PAGE = (Path(__file__).parents[3] / "docs" / "compatibility.md").read_text()
SECTION = PAGE.split("\n## `POST /v1/completions`\n")[1].split("\n## ")[0]
OUTCOMES = dict(re.findall(r"^\| `([a-z_]+)` \| ([A-Za-z ]+?) \|", SECTION, re.MULTILINE))

HONOURED = {
    "response_format": ({"response_format": {"type": "json_object"}}, lambda r: r.grammar and r.grammar.kind == "json_object"),
    "prompt": ({"prompt": "Twice"}, lambda r: r.prompts == ("Twice",)),
    "max_tokens": ({"max_tokens": 9}, lambda r: r.sampling.max_tokens == 9),
    "echo": ({"echo": True}, lambda r: r.echo),
    "logprobs": ({"logprobs": 5}, lambda r: r.sampling.logprobs == 5),
    "best_of": ({"best_of": 4}, lambda r: r.sampling.best_of == 4),
    "n": ({"n": 3}, lambda r: r.sampling.n == 3),
    "stream": ({"stream": True}, lambda r: r.stream),
    "temperature": ({"temperature": 0}, lambda r: r.sampling.temperature == 0),
    "top_p": ({"top_p": 0.5}, lambda r: r.sampling.top_p == 0.5),
    "stop": ({"stop": ["a", "b"]}, lambda r: r.sampling.stop == ("a", "b")),
    "seed": ({"seed": 3}, lambda r: r.sampling.seed == 3),
    "presence_penalty": ({"presence_penalty": 1}, lambda r: r.sampling.presence_penalty == 1),
    "frequency_penalty": ({"frequency_penalty": 1}, lambda r: r.sampling.frequency_penalty == 1),
    "logit_bias": ({"logit_bias": {"7": 1.5}}, lambda r: r.sampling.logit_bias == {7: 1.5}),
}
ELSEWHERE = {"model", "stream_options"}


def test_each_line_of_the_page_has_its_case_here():
    assert {field for field, kind in OUTCOMES.items() if kind == "Honoured"} == set(HONOURED) | ELSEWHERE
    assert {field for field, kind in OUTCOMES.items() if kind == "Refused"} == {line.param for line in completions.REFUSED}
    assert {field for field, kind in OUTCOMES.items() if kind == "No effect"} == {"user"}


@pytest.mark.parametrize("field", HONOURED)
def test_an_honoured_field_reaches_the_handler(field, completion_request):
    fields, seen = HONOURED[field]
    assert not seen(completion_request())
    assert seen(completion_request(**fields))


def test_a_suffix_is_refused_and_an_empty_one_is_none(completion_body):
    assert completions.plan(completion_body(suffix="")) == "generate_text"
    with pytest.raises(UnsupportedParameter) as caught:
        completions.plan(completion_body(suffix="end"))
    assert caught.value.param == "suffix"


def test_the_user_has_no_effect(completion_request):
    assert completion_request(user="u") == completion_request()


@pytest.mark.parametrize(
    ("prompt", "seen"),
    [
        ("a", ("a",)),
        ("", ("",)),
        (["a"], ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1, 2]], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_a_prompt_is_a_text_texts_token_ids_or_lists_of_them(prompt, seen, completion_request):
    assert completion_request(prompt=prompt).prompts == seen


@pytest.mark.parametrize("prompt", [None, [], [[]], ["a", 1], [1, [2]], ["a", [1]], [[1], []]])
def test_no_prompt_and_a_mixture_are_refused(prompt, completion_body):
    with pytest.raises(InvalidRequest) as caught:
        completions.plan(completion_body(prompt=prompt))
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"prompt": ["a"] * 9, "n": 15}, "prompt"),
        ({"prompt": ["a"] * 9, "n": 1, "best_of": 15}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields, param, completion_body, facts):
    body = completion_body(**fields)
    for refuse in (completions.plan, lambda body: completions.to_request(body, facts)):
        with pytest.raises(InvalidRequest) as caught:
            refuse(body)
        assert caught.value.param == param


def test_best_of_may_equal_n_in_a_stream(completion_request):
    assert completion_request(best_of=2, n=2, stream=True).sampling.best_of == 2


def test_nothing_is_generated_after_an_echo_if_so_asked(completion_request):
    assert completion_request(max_tokens=0, echo=True).sampling.max_tokens == 0


def test_sixteen_tokens_are_the_default_unless_there_is_a_mode(completion_body, completion_request):
    assert completion_request().sampling.max_tokens == 16
    assert completion_request(mode="creative").sampling.max_tokens is None
    facts = RelayFacts(request_id="r", model="m", public_model="m:creative", mode="creative")
    assert completions.to_request(completion_body(), facts).sampling.max_tokens is None
