"""What stands where a worker's replica does, for an engine."""

from __future__ import annotations

from typing import NoReturn

from openai_compat.errors import UnsupportedCapability
from openai_compat.gateway.replica import Call


class NoReplica:
    """An engine is spoken to as an upstream is (``Lease.engine``); what only our workers understand it cannot do."""

    def forward(self, call: Call) -> NoReturn:
        raise UnsupportedCapability("This model is an engine, which does not support this.", param="model")

    async def close(self) -> None:
        """Nothing is held open."""
