"""What the gateway's own routes are told, from a pool with processes that come and go."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from openai_compat.config import Config, Model, Route, Upstream, UpstreamModel
from openai_compat.directory import GatewayDirectory, GatewayHappenings, GatewayReadiness
from openai_compat.errors import ModelNotFound, Unavailable
from openai_compat.gateway.catalog import Catalog
from openai_compat.gateway.discovery import Discovery
from openai_compat.gateway.listing import Listed
from openai_compat.gateway.offers import Offers
from openai_compat.gateway.pool import Pool
from openai_compat.gateway.slot import ModelState


class FakePool(Pool):
    """States that the test sets, announced as the pool does."""

    def __init__(self) -> None:
        self._subscribers = set()
        self.current = {"a": "loading"}

    def states(self) -> tuple[ModelState, ...]:
        return tuple(ModelState(model_id=name, state=state) for name, state in self.current.items())

    def change(self, **states: str) -> None:
        self.current |= states
        for queue in self._subscribers:
            for state in self.states():
                queue.put_nowait(state)


def test_a_change_between_the_first_states_and_the_wait_for_changes_is_told() -> None:
    async def scenario() -> None:
        pool = FakePool()
        async with asyncio.timeout(30), contextlib.aclosing(GatewayHappenings(pool).events()) as events:
            seen: list[Any] = [await anext(events)]
            pool.change(a="ready")
            seen.append(await anext(events))
        assert [event.data.status for event in seen] == ["loading", "loaded"]
        assert pool._subscribers == set()

    asyncio.run(scenario())


@pytest.mark.parametrize(("preloaded", "status"), [(True, "ok"), (False, "loading")])
def test_the_server_is_ready_as_soon_as_everything_was_preloaded(preloaded: bool, status: str) -> None:
    class Once(FakePool):
        @property
        def preloaded(self) -> bool:
            return preloaded

    assert GatewayReadiness(Once()).health().status == status


# ---------------------------------------------------------------- the list


URL = "http://127.0.0.1:1/v1"
GPT = UpstreamModel(capabilities=("generate_text", "embed_text"), context_length=9000)


class Asked(Discovery):
    """Has asked already, and been told this."""

    def __init__(self, config: Config, **lists: dict[str, Listed]) -> None:
        super().__init__(config)
        self._lists = dict(lists)
        self._awaited -= set(lists)


def directory(config: Config, **lists: dict[str, Listed]) -> GatewayDirectory:
    pool = FakePool()
    pool.current = {"echo": "ready"}
    catalog = Catalog(config)
    return GatewayDirectory(config, catalog, pool, Offers(config, catalog, Asked(config, **lists)))


def config(**parts: Any) -> Config:
    upstreams = {
        "lab": Upstream(base_url=URL, models={"gpt": GPT, "lab/*": UpstreamModel(name="*")}, discover=True),
        "open": Upstream(base_url=URL, models={"mini": UpstreamModel(), "open-*": UpstreamModel()}),
    }
    return Config(models={"echo": Model(kind="echo")}, upstreams=upstreams, **parts)


LISTED = {"big": Listed(created=7, capabilities=("generate_text",), modes=("creative",), context_length=32_000)}


def test_every_name_is_listed_once_in_the_order_of_the_configuration_with_what_is_known_of_it() -> None:
    routes = {"fast": Route(targets=("echo", "gpt"), larger_context="lab/big"), "remote": Route(targets=("mini",))}
    aliases = {"quick": "fast", "small": "gpt", "loud": "echo:shout", "huge": "lab/big", "made-up": "open-anything"}
    models = {model.id: model for model in directory(config(routes=routes, aliases=aliases), lab=LISTED).list()}
    assert list(models) == ["echo", "gpt", "lab/big", "mini", "fast", "remote", *aliases]
    assert {name: model.owned_by for name, model in models.items() if model.owned_by != "openai-compat"} == {
        "echo": "local", "loud": "local", "gpt": "lab", "small": "lab", "lab/big": "lab", "huge": "lab", "mini": "open",
        "made-up": "open",
    }  # fmt: skip
    assert (models["gpt"].capabilities, models["gpt"].context_length) == (GPT.capabilities, 9000)
    big = models["lab/big"]
    assert (big.created, big.capabilities, big.modes, big.context_length) == (7, ("generate_text",), ("creative",), 32_000)
    assert (models["mini"].capabilities, models["mini"].context_length) == ((), None)
    assert {name: model.aliases for name, model in models.items() if model.aliases and name not in aliases} == {
        "echo": ("loud",), "gpt": ("small",), "lab/big": ("huge",), "fast": ("quick",),
    }  # fmt: skip
    assert {model.state for model in models.values()} == {"ready"}


def test_a_route_can_do_what_all_of_its_targets_can_and_is_as_long_as_the_longest() -> None:
    routes = {"fast": Route(targets=("gpt", "echo")), "long": Route(targets=("gpt",), larger_context="lab/big")}
    found = directory(config(routes=routes), lab=LISTED)
    assert set(found.get("fast").capabilities) == {"generate_text", "embed_text"}
    assert (found.get("long").capabilities, found.get("long").context_length) == (("generate_text",), 32_000)


def test_what_is_not_known_yet_is_listed_as_unavailable_and_asked_for_in_vain() -> None:
    routes = {"far": Route(targets=("lab/big",))}
    found = directory(config(routes=routes, aliases={"huge": "lab/big"}))
    assert {model.id: model.state for model in found.list()} == {
        "echo": "ready", "gpt": "ready", "mini": "ready", "far": "unavailable", "huge": "unavailable",
    }  # fmt: skip
    with pytest.raises(Unavailable):
        found.get("lab/big")


def test_any_name_that_a_request_may_use_is_described() -> None:
    found = directory(config(), lab=LISTED)
    names = ("echo", "echo:shout", "open-source", "lab/big:creative", "lab/big")
    assert [(found.get(name).id, found.get(name).owned_by) for name in names] == [
        ("echo", "local"), ("echo:shout", "local"), ("open-source", "open"), ("lab/big:creative", "lab"), ("lab/big", "lab"),
    ]  # fmt: skip
    assert found.get("lab/big:creative").capabilities == ("generate_text",)
    for name in ("echo:nonsense", "lab/other", "nothing"):
        with pytest.raises(ModelNotFound):
            found.get(name)


def test_models_that_are_loading_or_lost_say_so_and_so_does_a_route_of_them(tmp_path: Path) -> None:
    models = {"echo": Model(kind="echo"), "lost": Model(source=str(tmp_path / "nowhere"))}
    routes = {"both": Route(targets=("lost", "echo")), "none": Route(targets=("lost",))}
    found = directory(Config(models=models, routes=routes))
    assert {model.id: model.state for model in found.list()} == {
        "echo": "ready", "lost": "unavailable", "both": "ready", "none": "unavailable",
    }  # fmt: skip
