"""What the gateway must know of a relayed route to refuse a bad request before any model is touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from openai_compat.http.form import Form


class Endpoint(Struct, frozen=True):
    """Declared on a route as ``opt={"endpoint": Endpoint(...)}``.

    ``request`` is the schema that gateway and worker decode the body with. ``plan`` makes every check that needs no model,
    raises ``InvalidRequest``, and returns the verb (``handlers.types.Verb``) that the request needs, or several, any of which
    will do. ``form`` makes the same Struct of a ``multipart/form-data`` body; without it such a body is refused.
    ``remote`` says of a request which field, the first one, has its picture or sound on another server, if any does.
    ``local``: upstreams have no such route, so their models are not asked.
    ``links`` says of a request whether it asks for links in the place of pictures: then the gateway keeps each ``b64_json`` of
    the model's JSON answer, and puts a ``url`` there.
    """

    request: type[Struct]
    plan: Callable[[Any], str | tuple[str, ...]]
    form: Callable[[Form], Struct] | None = None
    links: Callable[[Any], bool] | None = None
    remote: Callable[[Any], str | None] | None = None
    local: bool = False
