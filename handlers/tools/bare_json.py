"""Nothing but JSON, bare at the beginning of an answer or in a fenced block: ``{"name": …, "arguments": {…}}`` or a list."""

from __future__ import annotations

from handlers.tools.calls import call_objects
from handlers.tools.reader import Reader, Step

_FENCE = "```"


class BareJson:
    marks = ("```json", "```tool_call")
    starts = ("{", "[", "```\n")
    tokens = ()

    def calls(self, r: Reader, mark: str) -> Step[None]:
        fenced = mark.startswith(_FENCE)
        if not fenced:
            r.back(mark)
        yield from call_objects(r, bare=True)
        if fenced:
            yield from r.skip_space()
            yield from r.accept(_FENCE)
