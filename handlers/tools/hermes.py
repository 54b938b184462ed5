"""Hermes and Qwen: ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, once for each call."""

from __future__ import annotations

from handlers.tools.calls import call_objects
from handlers.tools.reader import Reader, Step

_CLOSE = "</tool_call>"


class Hermes:
    marks = ("<tool_call>",)
    starts = ()
    tokens = ("<tool_call>", _CLOSE)

    def calls(self, r: Reader, mark: str) -> Step[None]:
        yield from call_objects(r)
        yield from r.skip_space()
        yield from r.accept(_CLOSE)
