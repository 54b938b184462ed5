"""Work that outlives its requests, when the server ends: it is waited for, for a time, unless somebody is in a hurry."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

_NAME = "lingering"


async def linger(work: Collection[asyncio.Task[Any]], seconds: float) -> None:
    """Returns also where a second signal asks the server to end at once."""
    if work:
        waiting = asyncio.create_task(asyncio.wait(work, timeout=seconds), name=_NAME)
        await asyncio.wait({waiting})


def hurry() -> None:
    """Let nobody linger any more. Belongs on the event loop."""
    for task in asyncio.all_tasks():
        if task.get_name() == _NAME:
            task.cancel()
