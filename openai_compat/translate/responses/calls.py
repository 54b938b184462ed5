"""Which call a piece of one belongs to: servers differ in what they write of it."""

from __future__ import annotations

from openai_compat.translate.responses.making import Call, Numbering
from openai_compat.translate.responses.tools import Toolbox
from schemas.answers import ReadCall


class Calls:
    """The calls of one answer.

    A piece belongs to the call of its index, unless it has another id and a name: some servers give all calls the same index.
    Without an index it is the one with its id, a new one where it has a name, or else the last.
    """

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self._by_index: dict[int, _Begun] = {}
        self._last: _Begun | None = None
        self._free = 0
        self._ids: set[str | None] = set()

    @property
    def any(self) -> bool:
        return self._last is not None

    def piece(self, piece: ReadCall, place: int, *, index: int, event: Numbering) -> tuple[Call, str] | None:
        """The call and what is new of its arguments; None while it has no name. A new one stands at ``index`` of the output."""
        begun = self._known(piece)
        function = piece.function
        arguments = (function and function.arguments) or ""
        begun.id = begun.id or piece.id
        if begun.call is None:
            begun.early.append(arguments)
            if function is None or not function.name:
                return None
            begun.call = Call(index, event, called=self._toolbox.what_is(function.name), call_id=self._unused(begun.id))
            arguments = "".join(begun.early)
        return begun.call, arguments

    def _unused(self, id: str | None) -> str | None:
        """None where another call of this answer has the id already: clients tell calls apart by it."""
        if id in self._ids:
            return None
        self._ids.add(id)
        return id

    def _known(self, piece: ReadCall) -> _Begun:
        named = piece.function is not None and bool(piece.function.name)
        found = self._last if piece.index is None else self._by_index.get(piece.index)
        other = found is not None and piece.id and found.id and piece.id != found.id
        if found is None or (named and (other or (piece.index is None and found.call is not None))):
            found = _Begun()
            index = self._free if piece.index is None else piece.index
            self._by_index[index] = found
            self._free = max(self._free, index + 1)
        self._last = found
        return found


class _Begun:
    """A call that was heard of; ``early`` are arguments that came before its name."""

    def __init__(self) -> None:
        self.id: str | None = None
        self.call: Call | None = None
        self.early: list[str] = []
