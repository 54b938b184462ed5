"""What a route says of forms and of answers that are no JSON."""

from typing import Annotated

import pytest
from litestar import Litestar, get, post
from litestar.params import FromPath
from litestar.testing import TestClient
from msgspec import Meta, Struct

from openai_compat.http.openapi import documented, openapi_config


class Ask(Struct):
    model: str


class Told(Struct):
    text: str


class Failed(Struct):
    why: str


class Query(Struct):
    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=5)] = 2


@pytest.fixture(scope="module")
def client():
    @post("/form", operation_class=documented(Ask, Told, events=Told, files=("file",), media=("text/plain",)))
    async def form() -> None:
        """Take a form."""

    @post("/sound", operation_class=documented(Ask, None, media=("audio/mpeg", "audio/wav")))
    async def sound() -> None:
        """Make a sound."""

    @get("/list/{name:str}", operation_class=documented(None, Told, query=Query, refuses=(409,)))
    async def several(name: FromPath[str]) -> None:
        """List them."""

    @post("/others", operation_class=documented(Ask, Told, events=(Told, Ask), refuses=(529,), failure=Failed))
    async def others() -> None:
        """Fail in a shape of its own."""

    with TestClient(
        Litestar([form, sound, several, others], openapi_config=openapi_config("1"), logging_config=None)
    ) as client:
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


def test_an_event_is_text_fields_of_which_one_holds_json(paths) -> None:
    event = paths["/form"]["post"]["responses"]["200"]["content"]["text/event-stream"]["schema"]
    whole, error, end = event["properties"]["data"]["anyOf"]
    assert whole["contentSchema"] == {"$ref": "#/components/schemas/Told"}
    assert error["contentSchema"] == {"$ref": "#/components/schemas/ErrorResponse"}
    assert end == {"const": "[DONE]"}


def test_a_route_may_have_several_events_and_a_failure_of_its_own(client, paths) -> None:
    responses = paths["/others"]["post"]["responses"]
    *kinds, end = responses["200"]["content"]["text/event-stream"]["schema"]["properties"]["data"]["anyOf"]
    references = [f"#/components/schemas/{name}" for name in ("Told", "Ask", "Failed")]
    assert [kind["contentSchema"]["$ref"] for kind in kinds] == references
    assert end == {"const": "[DONE]"}
    for status in ("400", "404", "529"):
        assert responses[status]["content"]["application/json"]["schema"] == {"$ref": references[-1]}
    assert {"Told", "Ask", "Failed"} <= set(client.get("/schema/openapi.json").json()["components"]["schemas"])


def test_parameters_of_the_address_are_told_and_never_null(paths) -> None:
    told = {each["name"]: each for each in paths["/list/{name}"]["get"]["parameters"]}
    assert set(told) == {"name", "after", "limit"}
    assert (told["after"]["in"], told["after"]["required"], told["after"]["schema"]["type"]) == ("query", False, "string")
    assert told["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 5, "default": 2}


def test_a_route_names_its_own_refusals(paths) -> None:
    assert {"409", "404", "200"} <= set(paths["/list/{name}"]["get"]["responses"])
