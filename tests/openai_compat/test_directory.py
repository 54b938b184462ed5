"""What the gateway's own routes are told, from a pool with processes that come and go."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from openai_compat.directory import GatewayHappenings, GatewayReadiness
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
