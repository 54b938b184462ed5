"""Results that are not there yet: what a verb returns where its model serves many requests at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar

ResultT = TypeVar("ResultT")


class Driver(Protocol):
    """What makes deferred results come about. It belongs to the model's thread.

    One that works on fewer requests at a time than it is given says so as ``at_once``; the others wait where they are counted.
    """

    def step(self) -> None:
        """Do one step of everything that waits; cheap when nothing does.

        An error of one request stays with that request. Where ``step`` itself raises, it has given up all of them.
        """


class Deferred(ABC, Generic[ResultT]):
    """One request's result, some steps of ``driver`` from now."""

    @property
    @abstractmethod
    def driver(self) -> Driver: ...

    @abstractmethod
    def poll(self) -> ResultT | None:
        """The result once it is there, else None. Raises the request's own error."""


def complete(outcome: ResultT | Deferred[ResultT]) -> ResultT:
    """The result itself, stepping as long as it takes: for a self-test, tests and scripts, where nobody else is served."""
    if not isinstance(outcome, Deferred):
        return outcome
    while (result := outcome.poll()) is None:
        outcome.driver.step()
    return result
