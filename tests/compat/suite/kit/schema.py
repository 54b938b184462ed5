"""OpenAI's published schema, made a JSON Schema.

`schema/openai.json` keeps the words of the OpenAPI document. ``nullable`` becomes a second type, variants are chosen by
their discriminator (so that an error names what is wrong with that one), those without one are any that fits: they overlap.
What the document says and its API does not do is in `schema/amendments.json`, with why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

FOLDER = Path(__file__).parent.parent / "schema"
PREFIX = "#/components/schemas/"
OPENAPI = frozenset({"nullable", "discriminator", "oneOf", "anyOf"})
"""What is said in another way here."""
LONGEST = 300
"""Characters of a violation that are kept."""


def violations(name: str, value: Any) -> list[str]:
    """What is wrong with ``value`` as the schema ``name`` of the document; where, and what."""
    errors = (leaf for error in validator(name).iter_errors(value) for leaf in _leaves(error))
    return sorted({_told(name, error) for error in errors})


def _leaves(error: Any) -> Iterator[Any]:
    """What is wrong with the one variant that is no null, where there is but one."""
    if error.validator == "anyOf":
        parts = [part for part in error.context if (part.validator, part.validator_value) != ("type", "null")]
        if len({part.schema_path[0] for part in parts}) == 1:
            yield from (leaf for part in parts for leaf in _leaves(part))
            return
    yield error


def _told(name: str, error: Any) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    return f"{name}{where}: {error.message}"[:LONGEST]


@cache
def validator(name: str) -> Draft202012Validator:
    schemas = document()
    if name not in schemas:
        raise KeyError(f"the schema has no {name}")
    return Draft202012Validator({"$ref": PREFIX + name, "components": {"schemas": schemas}})


@cache
def document() -> dict[str, Any]:
    schemas = json.loads((FOLDER / "openai.json").read_text())["components"]["schemas"]
    for amendment in json.loads((FOLDER / "amendments.json").read_text()):
        _amend(schemas, amendment)
    return {name: _translated(schema, schemas) for name, schema in schemas.items()}


def _amend(schemas: dict[str, Any], amendment: dict[str, Any]) -> None:
    """Sets what lies at a path of the document; fails where a newer document has no such place."""
    *steps, last = amendment["at"]
    place: Any = schemas
    for step in steps:
        place = place[step]
    if "copy" in amendment:
        place[last] = deepcopy(schemas[amendment["copy"]])
        return
    if last not in place and not amendment.get("new"):
        raise KeyError(f"{amendment['at']} is not in the document any more")
    place[last] = amendment["is"]


def _translated(schema: Any, schemas: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_translated(part, schemas) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _translated(value, schemas) for key, value in schema.items() if key not in OPENAPI}
    for union in ("oneOf", "anyOf"):
        if union in schema:
            found |= _chosen(schema, union, schemas)
    return {"anyOf": [found, {"type": "null"}]} if schema.get("nullable") is True else found


def _chosen(schema: dict[str, Any], union: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """A variant by its discriminator, or by its `type` where each must have one; else any."""
    variants = [_translated(part, schemas) for part in schema[union]]
    by = schema.get("discriminator", {}).get("propertyName", "type")
    named = "discriminator" in schema or all(_requires(part, by, schemas) for part in schema[union])
    values = [_values(part, by, schemas) if named else None for part in schema[union]]
    if None in values:
        return {"anyOf": variants}
    every = sorted({value for some in values for value in some or ()})
    rules: list[Any] = [{"type": "object", "required": [by], "properties": {by: {"enum": every}}}]
    for variant, some in zip(_merged(variants, values), values, strict=True):
        rules.append({"if": {"required": [by], "properties": {by: {"enum": some}}}, "then": variant})
    return {"allOf": rules}


def _requires(schema: dict[str, Any], by: str, schemas: dict[str, Any]) -> bool:
    if "$ref" in schema:
        return _requires(schemas[schema["$ref"].removeprefix(PREFIX)], by, schemas)
    parts = [part for key in ("oneOf", "anyOf") for part in schema.get(key, ())]
    if parts:
        return all(_requires(part, by, schemas) for part in parts)
    return by in schema.get("required", ()) or any(_requires(part, by, schemas) for part in schema.get("allOf", ()))


def _merged(variants: list[Any], values: list[list[str] | None]) -> list[Any]:
    """Variants that share a value of the discriminator (messages of a role and items) are each allowed where any is."""
    found = []
    for some in values:
        alike = [other for other, theirs in zip(variants, values, strict=True) if set(theirs or ()) & set(some or ())]
        found.append(alike[0] if len(alike) == 1 else {"anyOf": alike})
    return found


def _values(schema: Any, by: str, schemas: dict[str, Any]) -> list[str] | None:
    """The values of the discriminator that a variant knows; None where that cannot be told."""
    if "$ref" in schema:
        return _values(schemas[schema["$ref"].removeprefix(PREFIX)], by, schemas)
    for key in ("oneOf", "anyOf"):
        if key in schema:
            parts = [_values(part, by, schemas) for part in schema[key]]
            return None if None in parts else sorted({value for part in parts for value in part or ()})
    for part in schema.get("allOf", ()):
        if (found := _values(part, by, schemas)) is not None:
            return found
    named = schema.get("properties", {}).get(by, {})
    if "$ref" in named:
        named = schemas[named["$ref"].removeprefix(PREFIX)]
    return named.get("enum") or ([named["const"]] if "const" in named else None)
