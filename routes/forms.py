"""How a route takes a form with a file, in the gateway's check and in the worker alike.

opt={"endpoint": Endpoint(request=TranscriptionRequest, plan=…, form=from_form(TranscriptionRequest))}
…
if takes_form(request):
    wire, upload = await read_form(request, TranscriptionRequest)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from litestar import Request
from msgspec import Struct

from openai_compat.errors import InvalidRequest
from openai_compat.http.form import Form, FormReader, Upload, is_form
from schemas.form import decode_form

T = TypeVar("T", bound=Struct)
FILE = "file"
MISSING = "missing_required_parameter"


def from_form(type: type[T], *, file: str | None = FILE) -> Callable[[Form], T]:
    """For ``Endpoint(form=…)``: the Struct of a form that must hold the file called ``file``, if that is not None."""
    return partial(_checked, type=type, file=file)


def takes_form(request: Request[Any, Any, Any]) -> bool:
    """Whether the request brings a form, and not JSON."""
    return is_form(request.headers.get("content-type", ""))


async def read_form(request: Request[Any, Any, Any], type: type[T], *, file: str = FILE) -> tuple[T, Upload]:
    """The fields and the one file called ``file``. Raises ``InvalidRequest`` naming the field at fault."""
    form = await read_whole_form(request)
    return decode_form(form, type), form.file(file)


def missing_file(name: str) -> InvalidRequest:
    return InvalidRequest(f"The file '{name}' is missing from the form, or empty.", param=name, code=MISSING)


def check_once(files: Iterable[str], fields: Iterable[str]) -> None:
    """Raises ``InvalidRequest`` for what a form holds as a file and as a field: one of them would be lost."""
    twice = set(map(_root, files)) & set(map(_root, fields))
    if twice:
        name = min(twice)
        raise InvalidRequest(f"The form holds '{name}' both as a file and as a field.", param=name, code="invalid_value")


async def read_whole_form(request: Request[Any, Any, Any]) -> Form:
    """Everything that a form holds, files included."""
    reader = FormReader(request.headers.get("content-type", ""), keep_files=True)
    async for chunk in request.stream():
        reader.feed(chunk)
    return reader.finish()


def _checked(form: Form, type: type[T], file: str | None) -> T:
    if file is not None:
        form.file(file)
    return decode_form(form, type)


def _root(param: str) -> str:
    """``image[0].image_url`` is a part of ``image``."""
    return re.split(r"[.\[]", param, maxsplit=1)[0]
