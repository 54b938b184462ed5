"""The OpenAPI page. Routes read their bodies themselves, so that the messages are ours; this is where they say what they read.

A route names its Structs with ``operation_class=documented(…)``; ``DocumentedConfig`` collects them as the document is written
and adds their JSON schemas as msgspec makes them, bounds included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from http import HTTPStatus
from typing import Any, ClassVar

import msgspec
from litestar import Response, Router
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, OpenAPI, Operation, PathItem, SecurityScheme
from msgspec import Struct

from openai_compat.errors import NotFound
from openai_compat.http.errors import error_response
from openai_compat.http.form import FORM_TYPE
from openai_compat.http.openapi_page import PageRenderPlugin
from schemas.common import ErrorResponse

Schema = dict[str, Any]
Structs = tuple[type[Struct], ...]
JSON = "application/json"
EVENTS = "text/event-stream"
READ_ERRORS = (400, 401, 403, 404, 429, 500, 503)
WRITE_ERRORS = (400, 401, 403, 404, 408, 413, 415, 429, 500, 502, 503, 504)
_REFERENCE = "#/components/schemas/{name}"
_UNLISTED = {529: "Overloaded"}
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


class DocumentedOperation(Operation):
    """An operation that is described by Structs; ``documented`` makes the subclasses."""

    structs: ClassVar[Structs] = ()
    described: ClassVar[Schema] = {}

    def to_schema(self) -> Schema:
        plain = super().to_schema()
        together = [*plain.get("parameters", ()), *self.described.get("parameters", ())]
        return plain | self.described | ({"parameters": together} if together else {})


def documented(
    request: type[Struct] | None,
    response: type[Struct] | None,
    *,
    events: type[Struct] | Structs = (),
    files: Iterable[str] = (),
    media: Iterable[str] = (),
    errors: Iterable[int] | None = None,
    also: Iterable[int] = (),
    query: type[Struct] | None = None,
    refuses: Iterable[int] = (),
    failure: type[Struct] = ErrorResponse,
) -> type[DocumentedOperation]:
    """Describe a route.

    Args:
        request: the JSON body; None where there is none.
        response: the body of a 200 in JSON; None where it is never JSON.
        events: what each event of a stream holds, where the route can stream: one thing, or one of several.
        files: the files of a form, where the route takes a form as well as JSON.
        media: media types of a 200 that is no JSON, such as ``audio/mpeg`` or ``text/plain``.
        errors: statuses with an error body; by default those that any such route can answer.
        also: further statuses that answer with ``response``.
        query: the parameters of the address.
        refuses: further statuses with an error body.
        failure: the error body.
    """
    content = {} if response is None else {JSON: {"schema": _reference(response)}}
    content |= {kind: {"schema": {"type": "string"} if kind.startswith("text/") else _bytes(kind)} for kind in media}
    kinds = events if isinstance(events, tuple) else (events,)
    if kinds:
        content[EVENTS] = {"schema": _event(*kinds, failure)}
    failures = (*(errors if errors is not None else (WRITE_ERRORS if request else READ_ERRORS)), *refuses)
    responses = {str(status): _answer(status, content) for status in (200, *also)}
    responses |= {str(status): _answer(status, {JSON: {"schema": _reference(failure)}}) for status in failures}
    described: Schema = {"responses": responses}
    if request is not None:
        taken = {JSON: {"schema": _reference(request)}} | _form(request, tuple(files))
        described["requestBody"] = {"required": True, "content": taken}
    if query is not None:
        described["parameters"] = _parameters(query)
    structs = tuple(struct for struct in (request, response, *kinds, failure) if struct is not None)
    return type("DocumentedOperation", (DocumentedOperation,), {"structs": structs, "described": described})


def _reference(struct: type[Struct]) -> Schema:
    return {"$ref": _REFERENCE.format(name=struct.__name__)}


def _event(*data: type[Struct]) -> Schema:
    """One event of a stream: its fields are text, and that of ``data`` is JSON, an error's perhaps, or the mark of the end."""
    said = [*map(_text_of, data), {"const": "[DONE]"}]
    return {"type": "object", "properties": {"event": {"type": "string"}, "data": {"anyOf": said}}}


def _text_of(struct: type[Struct]) -> Schema:
    return {"type": "string", "contentMediaType": JSON, "contentSchema": _reference(struct)}


def _parameters(query: type[Struct]) -> list[Schema]:
    (_,), components = msgspec.json.schema_components((query,), ref_template=_REFERENCE)
    fields = components[query.__name__]["properties"]
    told = {"in": "query", "required": False, "allowEmptyValue": True}
    return [{"name": name, **told, "schema": _said(schema)} for name, schema in fields.items()]


def _said(schema: Schema) -> Schema:
    """An address has no null: a parameter is there, perhaps with nothing behind its name, or it is not."""
    several = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    return several[0] if len(several) == 1 else {name: value for name, value in schema.items() if value is not None}


def _form(fields: type[Struct], files: tuple[str, ...]) -> Schema:
    """A form of the same fields, and its files as bytes."""
    if not files:
        return {}
    parts = {"type": "object", "properties": dict.fromkeys(files, _bytes()), "required": list(files)}
    return {FORM_TYPE: {"schema": {"allOf": [_reference(fields), parts]}}}


def _bytes(kind: str = "application/octet-stream") -> Schema:
    """As OpenAPI 3.1 says it: no type, since it is no JSON."""
    return {"contentMediaType": kind}


def _answer(status: int, content: Schema) -> Schema:
    return {"description": _UNLISTED.get(status) or HTTPStatus(status).phrase, "content": content}


class _Document(OpenAPI):
    """litestar's document, with the Structs of its documented operations."""

    def to_schema(self) -> Schema:
        document = super().to_schema()
        structs = dict.fromkeys(struct for operation in self._operations() for struct in operation.structs)
        _, schemas = msgspec.json.schema_components(structs, ref_template=_REFERENCE)
        components = document.setdefault("components", {})
        components["schemas"] = {**components.get("schemas", {}), **schemas}
        return document

    def _operations(self) -> Iterator[DocumentedOperation]:
        for item in (self.paths or {}).values():
            for method in _METHODS if isinstance(item, PathItem) else ():
                operation = getattr(item, method)
                if isinstance(operation, DocumentedOperation):
                    yield operation


class DocumentedConfig(OpenAPIConfig):
    def to_openapi_schema(self) -> OpenAPI:
        plain = super().to_openapi_schema()
        return _Document(**{field.name: getattr(plain, field.name) for field in fields(plain)})


def openapi_config(version: str) -> OpenAPIConfig:
    """For ``Litestar(openapi_config=…)``: the document at ``/schema/openapi.json`` and a page to read it at ``/schema``."""
    return DocumentedConfig(
        title="openai-compat",
        version=version,
        description="One server that makes any model speak the OpenAI API.",
        use_handler_docstrings=True,
        components=Components(security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer")}),
        security=[{"bearer": []}, {}],
        render_plugins=[PageRenderPlugin(), JsonRenderPlugin()],
        openapi_router=Router("/schema", route_handlers=[], include_in_schema=False, after_request=_plain_not_found),
    )


def _plain_not_found(answer: Response[Any]) -> Response[Any]:
    """litestar answers other paths under the page's with an HTML page of its own."""
    return error_response(NotFound("There is no such page.")) if answer.status_code == HTTPStatus.NOT_FOUND else answer
