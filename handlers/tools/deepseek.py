"""DeepSeek, between marks of its own: name and object (V3.1), or ``function``, name and a fenced object (V3, R1)."""

from __future__ import annotations

from handlers.tools.calls import arguments
from handlers.tools.reader import Reader, Step

_BEGIN, _END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL, _CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
_SEPARATOR = "<｜tool▁sep｜>"
_FENCE = "```"


class DeepSeek:
    marks = (_BEGIN,)
    starts = ()
    tokens = (_BEGIN, _END, _CALL, _CALL_END, _SEPARATOR)

    def calls(self, r: Reader, mark: str) -> Step[None]:
        yield from r.expect(_CALL)
        yield from self._call(r)
        yield from r.skip_space()
        while (yield from r.accept(_CALL)):
            yield from self._call(r)
            yield from r.skip_space()
        yield from r.accept(_END)

    def _call(self, r: Reader) -> Step[None]:
        name = yield from r.word()
        yield from r.expect(_SEPARATOR)
        if name == "function" and (yield from r.peek()) not in ("{", "\n", " "):
            name = yield from r.word()
        yield from r.skip_space()
        if (yield from r.accept(_FENCE)):
            yield from r.accept("json")
        yield from arguments(r, name)
        yield from r.skip_space()
        yield from r.accept(_FENCE)
        yield from r.skip_space()
        yield from r.accept(_CALL_END)
