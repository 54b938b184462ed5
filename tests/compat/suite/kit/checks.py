"""How a check is declared: a function with an id and a sentence.

    check = checks("openai-python", needs=("chat",))

    @check("chat.stream.finish-once", "Each choice of a stream has exactly one finish_reason.")
    def check_finish(server: Server, openai_client: OpenAI) -> None: ...

A class of tests that somebody else wrote is declared as one: ``@check("langchain.standard", "LangChain's own tests")``; the id
of each of its tests is ``langchain.standard.<its name>``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import pytest

Promise = Literal["openai", "anthropic", "ours"]
"""Whose documentation promises it. What only we ask for is shown apart, and not counted against anybody."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """What the table says of one check. ``needs`` are capabilities of `kit.capabilities`: without one it is skipped."""

    id: str
    says: str
    client: str
    needs: tuple[str, ...] = ()
    promise: Promise = "openai"


def checks(client: str, *, needs: Iterable[str] = (), promise: Promise = "openai") -> Callable[..., pytest.MarkDecorator]:
    """A decorator for the checks that ``client`` makes; what is given here is what they have in common."""
    common = (*needs,)

    def check(id: str, says: str, *, needs: Iterable[str] = (), promise: Promise = promise) -> pytest.MarkDecorator:
        return pytest.mark.check(Check(id=id, says=says, client=client, needs=(*common, *needs), promise=promise))

    return check


def declared(item: Any) -> Check:
    """The check that a collected function is; a class' declaration is that of all of its functions."""
    found = [(node, mark.args[0]) for node, mark in item.iter_markers_with_node("check")]
    if not found:
        raise pytest.UsageError(f"{item.nodeid} is no check: declare it with `checks(...)`")
    node, own = found[0]
    if node is item:
        return own
    name = item.name.removeprefix("test_").replace("_", "-")
    first = (item.function.__doc__ or "").strip().partition("\n")[0]
    return Check(**{**vars(own), "id": f"{own.id}.{name}", "says": first or f"{own.says}: {name.replace('-', ' ')}"})
