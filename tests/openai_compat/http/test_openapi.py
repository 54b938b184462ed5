"""What a route says of forms and of answers that are no JSON."""

from __future__ import annotations

import pytest
from litestar import Litestar, post
from litestar.testing import TestClient
from msgspec import Struct

from openai_compat.http.openapi import documented, openapi_config


class Ask(Struct):
    model: str


class Told(Struct):
    text: str


@pytest.fixture(scope="module")
def client():
    @post("/form", operation_class=documented(Ask, Told, events=Told, files=("file",), media=("text/plain",)))
    async def form() -> None:
        """Take a form."""

    @post("/sound", operation_class=documented(Ask, None, media=("audio/mpeg", "audio/wav")))
    async def sound() -> None:
        """Make a sound."""

    with TestClient(Litestar([form, sound], openapi_config=openapi_config("1"), logging_config=None)) as client:
        yield client


@pytest.fixture(scope="module")
def paths(client) -> dict:
    return client.get("/schema/openapi.json").json()["paths"]


def test_a_form_has_the_fields_of_the_json_body_and_its_files(paths) -> None:
    content = paths["/form"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    fields, files = content["multipart/form-data"]["schema"]["allOf"]
    assert fields == content["application/json"]["schema"]
    assert files["properties"]["file"] == {"contentMediaType": "application/octet-stream"}
    assert files["required"] == ["file"]


def test_answers_of_every_kind_are_told(paths) -> None:
    told = paths["/form"]["post"]["responses"]["200"]["content"]
    assert set(told) == {"application/json", "text/event-stream", "text/plain"}
    sound = paths["/sound"]["post"]["responses"]["200"]["content"]
    assert sound == {kind: {"schema": {"contentMediaType": kind}} for kind in ("audio/mpeg", "audio/wav")}


def test_a_route_without_files_takes_json_only(paths) -> None:
    assert set(paths["/sound"]["post"]["requestBody"]["content"]) == {"application/json"}


def test_the_page_shows_them(client) -> None:
    page = client.get("/schema").text
    assert '<a href="#Ask">Ask</a> with <code>file</code> as <code>multipart/form-data</code>' in page
    assert "bytes as <code>audio/mpeg</code>" in page
    assert "string as <code>text/plain</code>" in page
