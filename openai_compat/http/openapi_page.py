"""The OpenAPI document as one page of plain HTML: nothing is fetched from elsewhere, no script runs where the API answers."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

Schema = dict[str, Any]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color-scheme: light dark; }
summary { cursor: pointer; } code { font-size: 90%; } table { border-collapse: collapse; margin: 1em 0; }
td { border-top: 1px solid #8886; padding: .2em 1em .2em 0; vertical-align: top; }
"""
_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "&gt; {}",
    "maximum": "≤ {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "maxProperties": "at most {} keys",
}


class PageRenderPlugin(OpenAPIRenderPlugin):
    """What ``/schema`` shows."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: Schema) -> bytes:
        return page(openapi_schema, self.get_openapi_json_route(request)).encode()


def page(document: Schema, source: str) -> str:
    info = document["info"]
    operations = "".join(
        _operation(path, method, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if isinstance(operation, dict)
    )
    structs = "".join(_struct(name, schema) for name, schema in document["components"]["schemas"].items())
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info.get('description', ''))}</p>"
        f'<p><a href="{escape(source)}">OpenAPI document</a></p>{operations}<h2>Objects</h2>{structs}</body></html>'
    )


def _operation(path: str, method: str, operation: Schema) -> str:
    head = f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation.get('description', ''))}</p>"
    body = operation.get("requestBody", {}).get("content", {})
    asked = f"<p>Body: {_contents(body)}</p>" if body else ""
    rows = "".join(
        _row(escape(status), escape(answer["description"]), _contents(answer.get("content", {})))
        for status, answer in operation["responses"].items()
    )
    return f"{head}{asked}<table>{rows}</table>"


def _row(*cells: str) -> str:
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _contents(content: Schema) -> str:
    return ", ".join(f"{_type(of.get('schema', {}))} as <code>{escape(media)}</code>" for media, of in content.items())


def _struct(name: str, schema: Schema) -> str:
    """Folded; a link to what is inside unfolds it."""
    required = schema.get("required", ())
    rows = "".join(
        _row(f"<code>{escape(key)}</code>", _type(of), "required" if key in required else "")
        for key, of in schema.get("properties", {}).items()
    )
    about = escape(schema.get("description", ""))
    return f'<details><summary>{escape(name)}</summary><p id="{escape(name)}">{about}</p><table>{rows}</table></details>'


def _type(schema: Schema) -> str:
    """A schema in words, with its bounds."""
    if reference := schema.get("$ref"):
        name = escape(reference.rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if together := schema.get("allOf"):
        return " with ".join(_type(each) for each in together)
    if files := schema.get("properties"):
        return ", ".join(f"<code>{escape(name)}</code>" for name in files)
    if schema.get("contentMediaType"):
        return "bytes"
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_type(choice) for choice in choices)
    if "enum" in schema:
        return ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    kind = escape(str(schema.get("type", "anything")))
    inner = f" of {_type(schema['items'])}" if schema.get("items") else ""
    return ", ".join([kind + inner, *_bounds(schema)])


def _bounds(schema: Schema) -> Iterator[str]:
    return (text.format(schema[key]) for key, text in _BOUNDS.items() if key in schema)
