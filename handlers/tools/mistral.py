"""Mistral: ``[TOOL_CALLS] [{"name": …, "arguments": {…}}]``, and since 2025 ``[TOOL_CALLS]name[ARGS]{…}`` for each call."""

from __future__ import annotations

from handlers.tools.calls import arguments, call_objects
from handlers.tools.reader import Reader, Step

_CALLS, _ID, _ARGS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"


class Mistral:
    marks = (_CALLS,)
    starts = ()
    tokens = (_CALLS, _ID, _ARGS)

    def calls(self, r: Reader, mark: str) -> Step[None]:
        yield from r.skip_space()
        if (yield from r.peek()) in ("[", "{"):
            return (yield from call_objects(r))
        name = yield from r.word()
        if (yield from r.accept(_ID)):
            yield from r.word()
        yield from r.accept(_ARGS)
        yield from arguments(r, name)
