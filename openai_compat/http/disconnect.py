"""Work that ends when its client leaves; litestar does not notice by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from litestar import Request

from openai_compat.errors import Cancelled

ResultT = TypeVar("ResultT", covariant=True)
WorkT = TypeVar("WorkT")
Message = Any


class Pending(Protocol[ResultT]):
    """What is awaited here: ``worker.runner.Job`` fits."""

    async def result(self) -> ResultT: ...

    def cancel(self) -> None: ...


async def gone(receive: Callable[[], Awaitable[Message]]) -> None:
    """Return once the client has left. The request's body must have been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def attended(request: Request[Any, Any, Any], work: Coroutine[Any, Any, WorkT]) -> WorkT:
    """The outcome of ``work``, or ``Cancelled`` as soon as the client leaves: it is cancelled, and over when this returns."""
    left = asyncio.ensure_future(gone(request.receive))
    doing = asyncio.ensure_future(work)
    try:
        await asyncio.wait({left, doing}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise Cancelled
        return doing.result()
    finally:
        left.cancel()
        doing.cancel()
        await asyncio.gather(doing, return_exceptions=True)


async def answer(request: Request[Any, Any, Any], job: Pending[ResultT]) -> ResultT:
    """The job's result, or ``Cancelled`` as soon as the client leaves; the job is cancelled however this ends early.

    Raises:
        APIError: whatever the job raised.
    """
    left = asyncio.ensure_future(gone(request.receive))
    result = asyncio.ensure_future(job.result())
    try:
        await asyncio.wait({left, result}, return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise Cancelled
        return result.result()
    finally:
        left.cancel()
        if not result.done():
            result.cancel()
            job.cancel()
