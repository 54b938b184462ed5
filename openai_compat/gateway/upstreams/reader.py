"""aiohttp's queues, for a reader who takes all that is there: a silent stream has three of them, of 760 bytes each."""

from __future__ import annotations

from typing import Any

from aiohttp.streams import StreamReader


class Few(list[Any]):
    """A queue of heads of answers, of which there is one at a time."""

    def popleft(self) -> Any:
        return self.pop(0)


class Reader(StreamReader):
    """The body of one answer. Only ``readany``, ``read`` without a size, and ``read_nowait`` without one may be used.

    Where the chunks of HTTP ended is not kept.
    """

    __slots__ = ()
    _buffer: Any

    def begin_http_chunk_receiving(self) -> None:
        pass

    def end_http_chunk_receiving(self) -> None:
        """Many small ones are as good a reason to stop as few large ones."""
        if len(self._buffer) > self._high_water_chunks:
            self._protocol.pause_reading()

    def _read_nowait(self, n: int) -> bytes:
        if n != -1:
            raise NotImplementedError("a part of what is there")
        pieces = self._buffer
        data: bytes = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._size = 0
        if self._protocol._reading_paused:  # only then is there anything left to parse
            self._protocol.resume_reading()
        return data


def lean(content: StreamReader) -> None:
    """Make ``content`` such a ``Reader``. aiohttp's parser can be told of no other class."""
    if type(content) is StreamReader:  # the one of answers without a body is nobody's own
        content._buffer = list(content._buffer)  # type: ignore[assignment]
        content._http_chunk_splits = None
        content.__class__ = Reader
