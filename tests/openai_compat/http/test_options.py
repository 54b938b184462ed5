"""OPTIONS tells every method of a path, whichever handler came first."""

from __future__ import annotations

import pytest
from litestar import Litestar, delete, get, post
from litestar.params import FromPath
from litestar.testing import TestClient

from openai_compat.http.options import WholeAllow


@pytest.fixture
def client():
    @post("/things")
    async def make() -> None:
        return None

    @get("/things")
    async def show() -> str:
        return ""

    @get("/things/{name:str}")
    async def one(name: FromPath[str]) -> str:
        return name

    @delete("/things/{name:str}")
    async def drop(name: FromPath[str]) -> None:
        return None

    app = Litestar([make, show, one, drop], openapi_config=None, logging_config=None)
    with TestClient(WholeAllow(app, app)) as client:  # type: ignore[arg-type]
        yield client


@pytest.mark.parametrize(
    ("path", "methods"), [("/things", "GET, HEAD, OPTIONS, POST"), ("/things/a", "DELETE, GET, HEAD, OPTIONS")]
)
def test_options_tells_every_method(client, path, methods) -> None:
    answer = client.options(path)
    assert (answer.status_code, answer.headers.get_list("allow")) == (204, [methods])


def test_a_path_that_is_not_there_has_none(client) -> None:
    assert client.options("/nothing").status_code == 404


def test_other_methods_are_left_alone(client) -> None:
    assert client.get("/things/a").text == "a"
