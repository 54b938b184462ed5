"""A whole gateway in this process, with an echo that makes videos."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from openai_compat.app import create_gateway
from openai_compat.config import Auth, Config, Jobs, Metering, Model, Price, Server, Upstream
from openai_compat.config import Storage as Settings

PATIENCE = 30.0  # seconds after which a test gives up, never what it expects


class Client(TestClient[Any]):
    def order(self, **body: Any) -> Any:
        return self.post("/v1/videos", json={"prompt": "sea", "size": "64x48", **body})

    def until(self, id: str, *statuses: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            video: dict[str, Any] = self.get(f"/v1/videos/{id}").json()
            if video["status"] in statuses:
                return video
            if video["status"] in ("completed", "failed"):
                break
            time.sleep(0.02)
        raise TimeoutError(f"{id} is {video}")

    def made(self, **body: Any) -> dict[str, Any]:
        return self.until(self.order(**body).json()["id"], "completed", "failed")


@pytest.fixture
def served(tmp_path: Path) -> Callable[..., AbstractContextManager[Client]]:
    """``with served(jobs={…}, storage={…}) as client``; the folder stays the same for the whole test."""
    (tmp_path / "nothing").mkdir()

    @contextmanager
    def make(
        *,
        keys: tuple[str, ...] = (),
        jobs: dict[str, Any] | None = None,
        storage: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        metering: dict[str, Any] | None = None,
        upstreams: dict[str, Upstream] | None = None,
        **server: Any,
    ) -> Iterator[Client]:
        config = Config(
            server=Server(inline=True, **{"shutdown_grace": 0.0, **server}),
            auth=Auth(keys=keys),
            jobs=Jobs(**(jobs or {})),
            metering=Metering(**(metering or {})),
            upstreams=upstreams or {},
            storage=Settings(dir=str(tmp_path / "kept"), **(storage or {})),
            models={
                "echo": Model(source=str(tmp_path / "nothing"), kind="echo", price=Price(request=0.5), options=options or {})
            },
            aliases={"sora-2": "echo"},
        )
        with Client(create_gateway(config), base_url="http://127.0.0.1:8000") as client:
            yield client

    return make
