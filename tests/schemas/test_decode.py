import json
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openai_compat.errors import InvalidRequest
from schemas.chat import ChatCompletionRequest
from schemas.completions import CompletionRequest
from schemas.decode import decode

HELLO = [{"role": "user", "content": "Hello"}]


class Small(msgspec.Struct, tag="small"):
    text: str


class Large(msgspec.Struct, tag="large"):
    text: str


class Probe(msgspec.Struct):
    size: Annotated[int, msgspec.Meta(ge=0, le=9)] | None = None
    kind: Literal["a", "b"] | None = None
    either: str | list[int] | None = None
    parts: list[Small | Large] = []
    table: dict[int, float] = {}


def refusal(body: bytes | dict, type: type = ChatCompletionRequest) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode(body if isinstance(body, bytes) else json.dumps(body).encode(), type)
    return caught.value


def chat(**fields) -> dict:
    return {"model": "m", "messages": HELLO, **fields}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The request body is empty; a JSON object is expected."),
        (b" \n", "The request body is empty; a JSON object is expected."),
        (b"{", "The request body is not valid JSON: it ends too early."),
        (b'{"model": x}', "The request body is not valid JSON: invalid character at byte 10."),
        (
            b'{"model": "m", "messages": [{"role": "user"}]} x',
            "The request body is not valid JSON: trailing characters at byte 48.",
        ),
        (b'{"model": "\xff"}', "The request body is not valid UTF-8."),
        (b'{"nobody knows": "\xff"}', "The request body is not valid UTF-8."),
        (b"[]", "The request body must be a JSON object: expected an object, but got an array instead."),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "The JSON of the request body is nested too deeply."),
        (b'{"metadata":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "The JSON of the request body is nested too deeply."),
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused_in_words(body, message):
    error = refusal(body)
    assert (error.message, error.param, error.code) == (message, None, "invalid_json")


def test_a_surrogate_that_utf_8_cannot_say_is_refused():
    assert refusal(b'{"model": "\\ud800", "messages": []}').code == "invalid_json"


@pytest.mark.parametrize(
    ("body", "param", "message", "code"),
    [
        ({}, "model", "Missing required parameter: 'model'.", "missing_required_parameter"),
        (
            chat(messages=[{}]),
            "messages[0].role",
            "Missing required parameter: 'messages[0].role'.",
            "missing_required_parameter",
        ),
        (chat(messages=[*HELLO, {"role": "nobody"}]), "messages[1].role", "'nobody' is not one of", "invalid_value"),
        (chat(messages="Hello"), "messages", "expected an array, but got a string instead.", "invalid_type"),
        (chat(messages=[]), "messages", "expected an array of length >= 1.", "invalid_value"),
        (chat(messages=[{"role": "user", "content": 3}]), "messages[0].content", "a string, an array or null", "invalid_type"),
        (
            chat(messages=[{"role": "user", "content": [{"type": "smell"}]}]),
            "messages[0].content[0].type",
            "'smell'",
            "invalid_value",
        ),
        (chat(n=17), "n", "expected an integer <= 16.", "invalid_value"),
        (chat(temperature="hot"), "temperature", "expected a number or null, but got a string instead.", "invalid_type"),
        (chat(stream="yes"), "stream", "expected a boolean or null, but got a string instead.", "invalid_type"),
        (chat(logit_bias={"5": 101}), "logit_bias", "expected a number <= 100.0.", "invalid_value"),
        (chat(logit_bias={"hello": 1}), "logit_bias", "Invalid type for key in 'logit_bias'", "invalid_type"),
    ],
)
def test_a_wrong_field_is_named_as_openai_names_it(body, param, message, code):
    error = refusal(body)
    assert error.param == param
    assert message in error.message
    assert error.code == code
    assert "`" not in error.message


def test_a_long_value_is_shortened_in_the_message():
    error = refusal(chat(messages=[{"role": "x" * 100_000}]))
    assert len(error.message) < 500


def test_a_value_that_looks_like_a_place_does_not_become_the_param():
    assert refusal(chat(messages=[{"role": "x - at `$.model`"}])).param == "messages[0].role"


INTEGER_BOUNDS = {"n": (1, 16), "top_logprobs": (0, 20), "seed": (-(2**63), 2**63 - 1)}
NUMBER_BOUNDS = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}


@pytest.mark.parametrize("field", INTEGER_BOUNDS)
def test_an_integer_is_taken_up_to_its_bounds_and_not_beyond(field):
    low, high = INTEGER_BOUNDS[field]
    for value in (low, high):
        assert getattr(decode(json.dumps(chat(**{field: value})).encode(), ChatCompletionRequest), field) == value
    for value in (low - 1, high + 1):
        assert refusal(chat(**{field: value})).param == field


@pytest.mark.parametrize("field", NUMBER_BOUNDS)
def test_a_number_is_taken_up_to_its_bounds_and_not_beyond(field):
    low, high = NUMBER_BOUNDS[field]
    for value in (low, high):
        assert getattr(decode(json.dumps(chat(**{field: value})).encode(), ChatCompletionRequest), field) == value
    for value in (low - 0.01, high + 0.01):
        assert refusal(chat(**{field: value})).param == field


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": "a" * 257}, "stop"),
        ({"stop": ["a" * 257]}, "stop[0]"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 129}, "tools"),
        ({"messages": HELLO * 2049}, "messages"),
        ({"logit_bias": {str(i): 0 for i in range(301)}}, "logit_bias"),
        ({"stop_token_ids": list(range(65))}, "stop_token_ids"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"max_tokens": 2**31}, "max_tokens"),
        ({"top_k": -2}, "top_k"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"mode": "m" * 65}, "mode"),
        ({"model": ""}, "model"),
        ({"metadata": {str(i): "" for i in range(257)}}, "metadata"),
        ({"chat_template_kwargs": {"enable_thinking": [1]}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"thinking_budget": 1e300}}, "chat_template_kwargs"),
    ],
)
def test_lists_texts_and_maps_have_bounds(fields, param):
    assert refusal(chat(**fields)).param == param


def test_numbers_that_are_no_numbers_are_refused():
    for text in (b"NaN", b"Infinity", b"1e999"):
        refusal(b'{"model": "m", "messages": [{"role": "user"}], "temperature": ' + text + b"}")


def test_the_token_list_of_a_prompt_takes_ids_only():
    assert refusal({"model": "m", "prompt": [[1, -1]]}, CompletionRequest).param == "prompt[0][1]"
    assert refusal({"model": "m", "prompt": [[1, "a"]]}, CompletionRequest).param == "prompt[0][1]"


def test_unknown_keys_are_ignored_at_every_level():
    message = {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}], "timestamp": 1}
    body = decode(json.dumps(chat(messages=[message], keep_alive="5m")).encode(), ChatCompletionRequest)
    assert body.messages[0].content[0].text == "a"


@pytest.mark.parametrize("type", [ChatCompletionRequest, CompletionRequest])
def test_null_is_the_same_as_leaving_an_optional_field_out(type):
    required = {"model": "m", "messages": HELLO}
    optional = [field.encode_name for field in msgspec.structs.fields(type) if not field.required]
    with_nulls = {**required, **dict.fromkeys(optional)}
    assert decode(json.dumps(with_nulls).encode(), type) == decode(json.dumps(required).encode(), type)


def test_null_is_unset_in_messages_too():
    message = {"role": "assistant", "content": None, "tool_calls": None, "function_call": None, "name": None, "audio": None}
    body = decode(json.dumps(chat(messages=[message])).encode(), ChatCompletionRequest)
    assert (
        body.messages[0]
        == decode(json.dumps(chat(messages=[{"role": "assistant"}])).encode(), ChatCompletionRequest).messages[0]
    )


patiently = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["size", "kind", "text", "type", "x"]), inner),
    max_leaves=8,
)


def refused(body: bytes, type: type) -> InvalidRequest | None:
    try:
        decode(body, type)
    except InvalidRequest as error:
        return error
    return None


@patiently
@given(st.binary(max_size=64), st.sampled_from([Probe, ChatCompletionRequest]))
def test_any_bytes_are_decoded_or_refused_and_nothing_else(body, type):
    error = refused(body, type)
    assert error is None or error.message.endswith(".")


@patiently
@given(
    st.dictionaries(st.sampled_from(["size", "kind", "either", "parts", "table", "model", "messages"]), json_values),
    st.sampled_from([Probe, ChatCompletionRequest, CompletionRequest]),
)
def test_any_json_object_is_decoded_or_refused_in_a_sentence(value, type):
    error = refused(json.dumps(value).encode(), type)
    assert error is None or error.message.endswith(".")
    assert error is None or "$" not in (error.param or "")
