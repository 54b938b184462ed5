"""From what a client asked for to a grammar, and from the library's complaints to an error that a client understands."""

from __future__ import annotations

import json
import re

from handlers.decoding import grammar_library as library
from handlers.decoding.grammar_calls import of_calls_or, of_marked_calls
from handlers.decoding.grammar_trial import TOO_COMPLEX
from handlers.types import GrammarSpec
from openai_compat.errors import InvalidRequest

_NAMES = {
    "json_object": "format",
    "json_schema": "JSON schema",
    "regex": "regular expression",
    "choice": "list of choices",
    "grammar": "grammar",
    "tool_calls": "schema of a tool's parameters",
    "marked_calls": "schema of a tool's parameters",
    "calls_or": "format, or the schema of a tool's parameters,",
}
_PLACE = re.compile(r"^(at )?\d+\(\d+\): ")
_WRAPPING = ("failed to compile JSON schema: ", "Invalid schema: ")
_KEYS = re.compile(r"Unimplemented keys: \[(.*)\]")
_FORMAT = re.compile(r"Unknown format: (.*)")
_LONGEST = 200


def grammar_of(spec: GrammarSpec) -> str:
    """What the library reads; a grammar of a client's as it is written. Raises ``InvalidRequest`` naming the field."""
    try:
        match spec.kind:
            case "json_object":
                return library.of_json_schema('{"type": "object"}')
            case "json_schema":
                return library.of_json_schema(spec.source)
            case "regex":
                return library.of_regex(spec.source)
            case "choice":
                return library.of_choices(json.loads(spec.source))
            case "grammar":
                return spec.source
            case "tool_calls":
                wanted = json.loads(spec.source)
                return library.of_calls(wanted["tools"], wanted["calls"])
            case "marked_calls":
                return of_marked_calls(**json.loads(spec.source))
            case "calls_or":
                return of_calls_or(**json.loads(spec.source))
    except ValueError as error:
        raise explained(str(error), spec) from error


def explained(problem: str, spec: GrammarSpec) -> InvalidRequest:
    name = _NAMES[spec.kind]
    if problem == TOO_COMPLEX:
        message = f"The {name} is too complex: it takes too much time or memory to prepare."
    elif "NoExtension" in problem:
        message = f"The {name} matches no text at all."
    elif _is_a_limit(problem):
        message = f"The {name} is too complex."
    else:
        message = f"The {name} cannot be used: {_reason(problem)}."
    return InvalidRequest(message, param=spec.param, code="invalid_value")


def _is_a_limit(problem: str) -> bool:
    return any(word in problem for word in ("fuel", "too many", "too large", "limits.", "TooComplex"))


def _reason(problem: str) -> str:
    """One line; the first says where and what, but for a regular expression, where the line ``error:`` does."""
    lines = problem.splitlines() or [""]
    said = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0])
    said = _PLACE.sub("", said)
    for wrapping in _WRAPPING:
        said = said.removeprefix(wrapping)
    if keys := _KEYS.search(said):
        return f"the keywords {keys[1].replace(chr(34), chr(39))} are not supported"
    if unknown := _FORMAT.search(said):
        return f"the 'format' {unknown[1]!r} is not supported"
    return said.split(" (in regex)")[0].strip().rstrip(".")[:_LONGEST]
