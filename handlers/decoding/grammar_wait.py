"""A request whose grammar is still being built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from handlers.decoding.grammar import Compilation
from handlers.decoding.ticket import NewMatcher
from handlers.deferred import Deferred, Driver
from handlers.types import RunContext

ResultT = TypeVar("ResultT")
_PAUSE = 0.001
"""Seconds that the others' next step may be put off for, so that nobody spins while nothing else is to be done."""


class Prepared(Deferred[ResultT], Generic[ResultT]):
    """It waits beside the others' steps, and is submitted once its grammar is there. A bad grammar is its own error.

    Args:
        submit: hands the request to ``driver``.
    """

    def __init__(
        self, driver: Driver, ctx: RunContext, compilation: Compilation, submit: Callable[[NewMatcher], Deferred[ResultT]]
    ) -> None:
        self._driver = driver
        self._ctx = ctx
        self._compilation = compilation
        self._submit = submit
        self._submitted: Deferred[ResultT] | None = None

    @property
    def driver(self) -> Driver:
        return self._driver

    def poll(self) -> ResultT | None:
        if self._submitted is None:
            self._ctx.check()
            if not self._compilation.wait(_PAUSE):
                return None
            self._compilation.matcher()
            self._submitted = self._submit(self._compilation.matcher)
        return self._submitted.poll()
