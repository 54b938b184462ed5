"""What schemathesis is told of this server: a model that there is, and the shape that every refusal has."""

from __future__ import annotations

from typing import Any

import schemathesis

MESSAGES = "/v1/messages"
FIELDS = {"message", "type", "param", "code"}
MODEL = "echo"


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """Names the model that is served: with any other, nothing but the 404 would be tried. A case in eight keeps its own."""
    body = case.body
    if isinstance(body, dict) and isinstance(body.get("model"), str) and len(repr(body)) % 8:
        case.body = body | {"model": MODEL}
    return case


@schemathesis.check
def refusal_is_openais(context: Any, response: Any, case: Any) -> None:
    """Every 4xx and 5xx holds OpenAI's error object (Anthropic's below its route), and nothing else, whatever was asked."""
    if response.status_code < 400 or case.method == "HEAD":
        return
    assert response.headers["content-type"][0].startswith("application/json"), response.headers["content-type"]
    body = response.json()
    if case.path.startswith(MESSAGES):
        assert body["type"] == "error", body
        assert set(body) == {"type", "error", "request_id"}, body
        assert set(body["error"]) == {"type", "message"}, body
        assert body["error"]["message"], body
        return
    assert set(body) == {"error"}, body
    error = body["error"]
    assert set(error) == FIELDS, error
    assert isinstance(error["message"], str), error
    assert error["message"], error
    assert isinstance(error["type"], str), error
    assert all(error[name] is None or isinstance(error[name], str) for name in ("param", "code")), error
