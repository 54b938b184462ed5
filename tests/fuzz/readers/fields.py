"""The fields of a form, as each route that takes one reads them: a plan, or a refusal that names the field."""

from __future__ import annotations

import runpy
from functools import cache
from pathlib import Path
from typing import Any

from openai_compat.errors import APIError, error_body
from openai_compat.http.endpoint import Endpoint
from openai_compat.http.form import Form, Upload

FILE = Upload(filename="a.png", content_type="image/png", data=b"\x89PNG\r\n\x1a\n", size=8)
FILES = ("file", "image", "mask", "input_reference")


@cache
def routes() -> tuple[Any, Any]:
    """Those that take forms, and what must hold of a refusal."""
    bodies = runpy.run_path(str(Path(__file__).with_name("bodies.py")))
    return tuple(each for each in bodies["endpoints"]() if each.form is not None), bodies["check"]


def fuzz(data: bytes) -> None:
    """The first byte chooses the route, bits of the second the files; each line is a field."""
    endpoints, check = routes()
    endpoint: Endpoint = endpoints[(data[0] if data else 0) % len(endpoints)]
    marks = data[1] if len(data) > 1 else 0
    fields: dict[str, list[str]] = {}
    for line in data[2:].decode("utf-8", "replace").split("\n"):
        name, _, value = line.partition("=")
        fields.setdefault(name, []).append(value)
    files = {name: [FILE] for place, name in enumerate(FILES) if marks >> place & 1}
    try:
        body = endpoint.form(Form(fields=fields, files=files)) if endpoint.form else None
        endpoint.plan(body)
    except APIError as error:
        check(error_body(error)["error"])
