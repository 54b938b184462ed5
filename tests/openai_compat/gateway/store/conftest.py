"""A store on a folder of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from openai_compat.config import Config
from openai_compat.config import Storage as Settings
from openai_compat.gateway.store.storage import Storage, Store


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Store]]:
    """``async with store(quota=…) as opened``."""

    @asynccontextmanager
    async def make(**settings: Any) -> AsyncIterator[Store]:
        storage = Storage(Config(storage=Settings(dir=str(tmp_path / "kept"), **settings)))
        try:
            yield await storage.open()
        finally:
            await storage.close()

    return make
