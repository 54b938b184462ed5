"""JSON bodies of every route: a plan, or a refusal that names the field in words that can be sent."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from litestar import Router

from openai_compat.app import MODEL_ROUTES
from openai_compat.errors import APIError, error_body
from openai_compat.http.endpoint import Endpoint
from schemas.chat import ChatCompletionRequest
from schemas.decode import decode

LONGEST = 4096


@cache
def endpoints() -> tuple[Endpoint, ...]:
    routes = Router("/", route_handlers=list(MODEL_ROUTES)).routes
    handlers = [handler for route in sorted(routes, key=lambda route: route.path) for handler in route.route_handlers]
    return tuple(handler.opt["endpoint"] for handler in handlers if "endpoint" in handler.opt)


def fuzz(data: bytes) -> None:
    """The first byte chooses the route."""
    each = endpoints()
    endpoint = each[(data[0] if data else 0) % len(each)]
    try:
        body = decode(data[1:], endpoint.request)
        endpoint.plan(body)
        if endpoint.remote is not None:
            endpoint.remote(body)
    except APIError as error:
        check(error_body(error)["error"])
    else:
        assert not brings_template(body)


def check(said: dict[str, Any]) -> None:
    json.dumps(said, ensure_ascii=False).encode()
    assert said["message"]
    assert len(said["message"]) <= LONGEST
    assert said["param"] is None or len(said["param"]) <= LONGEST


def brings_template(body: Any) -> bool:
    return isinstance(body, ChatCompletionRequest) and body.chat_template is not None
