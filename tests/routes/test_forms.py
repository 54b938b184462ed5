"""How a route in a worker reads a form."""

from __future__ import annotations

from typing import Any

import pytest
from litestar import Litestar, Request, post
from litestar.testing import TestClient
from msgspec import Struct

from openai_compat.errors import InvalidRequest
from openai_compat.http.errors import exception_handlers
from openai_compat.http.form import Form, Upload
from routes.forms import from_form, read_form, read_whole_form, takes_form


class Ask(Struct, frozen=True):
    model: str
    temperature: float | None = None


@pytest.fixture(scope="module")
def client():
    @post("/one", status_code=200)
    async def one(request: Request[Any, Any, Any]) -> dict[str, Any]:
        if not takes_form(request):
            return {"form": False}
        wire, upload = await read_form(request, Ask)
        return {"model": wire.model, "temperature": wire.temperature, "name": upload.filename, "size": len(upload.data)}

    @post("/all", status_code=200)
    async def whole(request: Request[Any, Any, Any]) -> dict[str, int]:
        return {name: len(files) for name, files in (await read_whole_form(request)).files.items()}

    app = Litestar([one, whole], exception_handlers=exception_handlers, openapi_config=None, logging_config=None)
    with TestClient(app) as client:
        yield client


def test_fields_and_file_come_together(client) -> None:
    answer = client.post("/one", data={"model": "m", "temperature": "0.5"}, files={"file": ("a", b"x" * 200_000)})
    assert answer.json() == {"model": "m", "temperature": 0.5, "name": "a", "size": 200_000}


def test_several_files_of_one_name(client) -> None:
    files = [("image[]", ("a.png", b"1")), ("image[]", ("b.png", b"2")), ("mask", ("m.png", b"3"))]
    assert client.post("/all", files=files).json() == {"image": 2, "mask": 1}


def test_json_is_no_form(client) -> None:
    assert client.post("/one", json={}).json() == {"form": False}


@pytest.mark.parametrize(
    ("data", "files", "param"),
    [({"model": "m"}, {"other": ("a", b"x")}, "file"), ({"model": "m", "temperature": "x"}, {"file": b"x"}, "temperature")],
)
def test_what_is_wrong_is_a_400_naming_the_field(client, data, files, param) -> None:
    answer = client.post("/one", data=data, files=files)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_the_check_of_the_gateway_needs_no_bytes_of_the_file() -> None:
    upload = Upload(filename="a", content_type="", data=b"", size=5)
    form = Form(fields={"model": ["m"]}, files={"file": [upload]})
    assert from_form(Ask)(form) == Ask("m")
    with pytest.raises(InvalidRequest):
        from_form(Ask)(Form(fields={"model": ["m"]}, files={}))
    assert from_form(Ask, file=None)(Form(fields={"model": ["m"]}, files={})) == Ask("m")
