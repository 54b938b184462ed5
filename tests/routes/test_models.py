import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from litestar import Litestar, Request, get
from litestar.testing import TestClient
from openai.types import Model as SDKModel

from openai_compat.app import given
from openai_compat.errors import ModelNotFound
from openai_compat.grants import ANYBODY, Grant
from openai_compat.http.errors import exception_handlers
from routes.models import ModelController
from schemas.models import Model

IDS = ["small", "org/name", "org/name:Q4", "org/name@main:code"]


class Shelf:
    def list(self, grant: Grant) -> list[Model]:
        return [Model(id=id, created=1_790_000_000, modes=("chat",)) for id in IDS if grant.may_use(id)]

    def get(self, id: str, grant: Grant) -> Model:
        for model in self.list(grant):
            if model.id == id:
                return model
        raise ModelNotFound(id, ("small",))


def app(shelf: Shelf, *others, grant: Grant = ANYBODY) -> Litestar:
    async def admit(request: Request) -> None:
        request.scope["state"]["grant"] = grant

    return Litestar(
        [ModelController, *others],
        dependencies={"directory": given(shelf)},
        exception_handlers=exception_handlers,
        before_request=admit,
        logging_config=None,
    )


@pytest.fixture
def client():
    with TestClient(app(Shelf())) as client:
        yield client


def test_the_models_are_listed_in_their_order(client):
    data = client.get("/v1/models").json()
    assert data["object"] == "list"
    assert [model["id"] for model in data["data"]] == IDS
    for model in data["data"]:
        SDKModel.model_validate(model, strict=True)


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("encoded", [False, True])
def test_an_id_with_slashes_and_colons_is_found_encoded_or_not(client, id, encoded):
    path = id.replace("/", "%2F").replace(":", "%3A").replace("@", "%40") if encoded else id
    answer = client.get(f"/v1/models/{path}")
    assert (answer.status_code, answer.json()["id"]) == (200, id)


def test_a_model_has_what_openai_says_and_what_we_add(client):
    assert client.get("/v1/models/small").json() == {
        "id": "small",
        "object": "model",
        "created": 1_790_000_000,
        "owned_by": "openai-compat",
        "capabilities": [],
        "modes": ["chat"],
        "context_length": None,
        "aliases": [],
        "state": "unloaded",
    }


def test_codex_is_given_a_catalogue_that_leaves_it_with_its_own(client):
    """It looks for ``models``, with fields that only its makers can fill, and asks with its version."""
    assert client.get("/v1/models?client_version=0.169.0").json()["models"] == []
    assert "models" not in client.get("/v1/models").json()


def test_a_key_sees_only_the_models_that_it_may_use():
    with TestClient(app(Shelf(), grant=Grant(models=("org/*",)))) as client:
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == IDS[1:]
        assert (client.get("/v1/models/org/name").status_code, client.get("/v1/models/small").status_code) == (200, 404)


def test_an_unknown_model_is_a_404_with_near_names(client):
    answer = client.get("/v1/models/smal")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "small" in error["message"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/small"])
def test_a_look_at_files_that_takes_long_keeps_nobody_else_waiting(path):
    looking, may_end = threading.Event(), threading.Event()

    class Slow(Shelf):
        def list(self, grant: Grant) -> list[Model]:
            looking.set()
            assert may_end.wait(10)
            return super().list(grant)

    @get("/other")
    async def other() -> str:
        may_end.set()
        return "here"

    with TestClient(app(Slow(), other)) as client, ThreadPoolExecutor() as callers:
        slow = callers.submit(client.get, path)
        assert looking.wait(30)
        assert client.get("/other").status_code == slow.result(30).status_code == 200
