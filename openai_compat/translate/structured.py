"""What an answer must look like: ``response_format`` and the fields that vLLM has beside it → one ``GrammarSpec``.

Here are the checks that need no model; whether a grammar can be built of it the worker finds out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from handlers.types import GrammarSpec
from openai_compat.errors import InvalidRequest, UnsupportedParameter
from openai_compat.translate.schema_bounds import check_bounds
from openai_compat.translate.schema_keywords import check_keywords
from schemas.common import SamplingFields
from schemas.structured import ResponseFormat, StructuredOutputs

MAX_REGEX_BYTES = 1024
MAX_GRAMMAR_BYTES = 64 << 10
MAX_CHOICES_BYTES = 64 << 10
_FORMAT = "response_format"
_OUTPUTS = "structured_outputs"


def grammar_of(body: SamplingFields) -> GrammarSpec | None:
    """None where the answer is free. Raises ``InvalidRequest`` naming the field."""
    found = [spec for spec in _asked(body) if spec is not None]
    if len(found) > 1:
        raise InvalidRequest(f"'{found[0].param}' and '{found[1].param}' cannot be given together.", param=found[1].param)
    return found[0] if found else None


def _asked(body: SamplingFields) -> Iterator[GrammarSpec | None]:
    yield _of_format(body.response_format)
    yield _of_json(body.guided_json, "guided_json")
    yield _of_regex(body.guided_regex, "guided_regex")
    yield _of_choice(body.guided_choice, "guided_choice")
    yield _of_grammar(body.guided_grammar, "guided_grammar")
    if body.structured_outputs is not None:
        yield from _of_outputs(body.structured_outputs)


def _of_outputs(asked: StructuredOutputs) -> Iterator[GrammarSpec | None]:
    for name in ("structural_tag", "whitespace_pattern", "disable_any_whitespace", "disable_additional_properties"):
        if getattr(asked, name) not in (None, False):
            param = f"{_OUTPUTS}.{name}"
            raise UnsupportedParameter(f"Unsupported parameter: '{param}'.", param=param)
    yield _of_json(asked.json, f"{_OUTPUTS}.json")
    yield _of_regex(asked.regex, f"{_OUTPUTS}.regex")
    yield _of_choice(asked.choice, f"{_OUTPUTS}.choice")
    yield _of_grammar(asked.grammar, f"{_OUTPUTS}.grammar")
    yield GrammarSpec(kind="json_object", param=f"{_OUTPUTS}.json_object") if asked.json_object else None


def _of_format(asked: ResponseFormat | None) -> GrammarSpec | None:
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_object":
        return GrammarSpec(kind="json_object", param=_FORMAT)
    if asked.json_schema is None:
        param = f"{_FORMAT}.json_schema"
        raise InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    if asked.json_schema.schema is None:
        return GrammarSpec(kind="json_object", param=_FORMAT)
    return _of_json(asked.json_schema.schema, _FORMAT)


def _of_json(schema: Any, param: str) -> GrammarSpec | None:
    """``schema`` is a JSON value, or its text."""
    if schema is None:
        return None
    if isinstance(schema, str):
        schema = _parsed(schema, param)
    check_bounds(schema, param)
    check_keywords(schema, param)
    return GrammarSpec(kind="json_schema", source=msgspec.json.encode(schema).decode(), param=param)


def _parsed(text: str, param: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _invalid("is no JSON", param) from error


def _of_regex(regex: str | None, param: str) -> GrammarSpec | None:
    if regex is None:
        return None
    _check_size(regex, MAX_REGEX_BYTES, param)
    return GrammarSpec(kind="regex", source=regex, param=param)


def _of_choice(choices: list[str] | None, param: str) -> GrammarSpec | None:
    if choices is None:
        return None
    if not choices:
        raise _invalid("has no choice", param)
    source = msgspec.json.encode(choices).decode()
    _check_size(source, MAX_CHOICES_BYTES, param)
    return GrammarSpec(kind="choice", source=source, param=param)


def _of_grammar(grammar: str | None, param: str) -> GrammarSpec | None:
    """Directives of the library that would switch its own checks off are no part of what is offered."""
    if grammar is None:
        return None
    _check_size(grammar, MAX_GRAMMAR_BYTES, param)
    for directive in ("%llguidance", "%json"):
        if directive in grammar:
            raise _invalid(f"may not use '{directive}'", param)
    return GrammarSpec(kind="grammar", source=grammar, param=param)


def _check_size(text: str, most: int, param: str) -> None:
    if len(text.encode(errors="replace")) > most:
        raise _invalid(f"may have {most} bytes", param)


def _invalid(reason: str, param: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid value for '{param}': it {reason}.", param=param, code="invalid_value")
