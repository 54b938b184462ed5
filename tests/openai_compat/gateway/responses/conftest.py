"""A whole gateway in this process, with an echo that answers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from openai_compat.app import create_gateway
from openai_compat.auth import hash_key
from openai_compat.config import Auth, Config, Metering, Model, Responses, Server, Upstream
from openai_compat.config import Storage as Settings

PATIENCE = 30.0  # seconds after which a test gives up, never what it expects


class Client(TestClient[Any]):
    def ask(self, said: Any, key: str = "", **body: Any) -> Any:
        return self.post("/v1/responses", json={"model": "echo", "input": said, **body}, headers=bearer(key))

    def events(self, said: Any, **body: Any) -> list[dict[str, Any]]:
        return events_of(self.ask(said, stream=True, **body).text)

    def until(self, id: str, *statuses: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            response: dict[str, Any] = self.get(f"/v1/responses/{id}").json()
            if response["status"] in statuses:
                return response
            time.sleep(0.02)
        raise TimeoutError(f"{id} is {response}")


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def events_of(text: str) -> list[dict[str, Any]]:
    """Of a stream; each says in its line ``event:`` what it says inside."""
    found = []
    for block in text.split("\n\n"):
        if block and not block.startswith(":"):
            name, data = block.split("\n")
            found.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {found[-1]['type']}"
    return found


def text_of(response: dict[str, Any]) -> str:
    parts = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part["text"] for part in parts)


@pytest.fixture(name="events_of")
def _events_of() -> Callable[[str], list[dict[str, Any]]]:
    return events_of


@pytest.fixture(name="text_of")
def _text_of() -> Callable[[dict[str, Any]], str]:
    return text_of


@pytest.fixture(name="bearer")
def _bearer() -> Callable[[str], dict[str, str]]:
    return bearer


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The folder of what is kept."""
    return tmp_path / "kept"


@pytest.fixture
def served(tmp_path: Path, kept: Path) -> Callable[..., AbstractContextManager[Client]]:
    """``with served(keys=("a", "b"), expiry=…) as client``; the folder stays the same for the whole test."""
    (tmp_path / "nothing").mkdir()

    @contextmanager
    def make(
        *,
        keys: tuple[str, ...] = (),
        metering: dict[str, Any] | None = None,
        context_length: int | None = None,
        server: dict[str, Any] | None = None,
        upstreams: dict[str, Upstream] | None = None,
        **responses: Any,
    ) -> Iterator[Client]:
        config = Config(
            server=Server(inline=True, **{"shutdown_grace": 0.0, **(server or {})}),
            auth=Auth(keys=tuple(map(hash_key, keys))),
            metering=Metering(**(metering or {})),
            responses=Responses(**responses),
            upstreams=upstreams or {},
            storage=Settings(dir=str(kept)),
            models={"echo": Model(source=str(tmp_path / "nothing"), kind="echo", context_length=context_length)},
        )
        with Client(create_gateway(config), base_url="http://127.0.0.1:8000") as client:
            yield client

    return make
