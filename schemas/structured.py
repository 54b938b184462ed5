"""What an answer must look like: OpenAI's ``response_format``, and what vLLM's clients send."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Schema = Annotated[dict[str, Any], Meta(max_length=256)]
SchemaText = Annotated[str, Meta(max_length=65_536)]
Regex = Annotated[str, Meta(max_length=1024)]
Grammar = Annotated[str, Meta(max_length=65_536, description="In Lark's syntax, or in GBNF.")]
Choices = Annotated[list[Annotated[str, Meta(max_length=4096)]], Meta(max_length=1000)]


class JsonSchemaFormat(Struct, frozen=True, kw_only=True):
    name: Annotated[str, Meta(max_length=256)]
    description: Annotated[str, Meta(max_length=65_536)] | None = None
    schema: Schema | None = None
    strict: bool | None = None


class ResponseFormat(Struct, frozen=True, kw_only=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class StructuredOutputs(Struct, frozen=True, kw_only=True):
    """One of the first group; the second is refused."""

    json: Schema | SchemaText | None = None
    regex: Regex | None = None
    choice: Choices | None = None
    grammar: Grammar | None = None
    json_object: bool | None = None

    structural_tag: Any = None
    whitespace_pattern: Any = None
    disable_any_whitespace: Any = None
    disable_additional_properties: Any = None
