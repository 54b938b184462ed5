"""Who may load which models: asked of the desk itself, with keys for certain models."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest
from litestar.types import HTTPScope, Receive

from openai_compat.config import Config, Model
from openai_compat.errors import ModelNotFound
from openai_compat.gateway.catalog import Catalog
from openai_compat.gateway.discovery import Discovery
from openai_compat.gateway.loads import Loads
from openai_compat.gateway.offers import Offers
from openai_compat.gateway.pool import Pool
from openai_compat.grants import Grant

CONFIG = Config(models={"a": Model(kind="echo"), "b": Model(kind="echo")}, aliases={"other": "b"})


class Noting(Pool):
    """Begins nothing, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def load(self, model_id: str) -> None:
        self.asked.append(model_id)


class Edition:
    config = CONFIG
    offers = Offers(CONFIG, Catalog(CONFIG), Discovery(CONFIG))


def load(name: str, grant: Grant) -> list[str]:
    pool = Noting()
    scope = cast(HTTPScope, {"headers": [(b"content-type", b"application/json")], "state": {"grant": grant}})

    async def receive() -> Any:
        return {"type": "http.request", "body": json.dumps({"model": name}).encode()}

    asyncio.run(Loads(Edition, pool).load(scope, cast(Receive, receive)))
    return pool.asked


def test_a_key_loads_what_it_may_use_under_the_name_that_it_may_use() -> None:
    assert load("a", Grant(models=("a",))) == ["a"]
    assert load("other", Grant(models=("other",))) == ["b"]
    assert load("a", Grant()) == ["a"]


@pytest.mark.parametrize("name", ["b", "other", "nobody"])
def test_to_a_key_another_model_does_not_exist(name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        load(name, Grant(models=("a",)))
    assert "'b'" not in str(caught.value).replace(f"'{name}'", "")
