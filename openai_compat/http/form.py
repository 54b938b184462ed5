"""``multipart/form-data``, read as it comes in: every part bounded, nothing kept that nobody asks for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

from msgspec import Struct
from multipart import (
    MultipartError,
    MultipartSegment,
    ParserError,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from openai_compat.errors import InvalidRequest

ResultT = TypeVar("ResultT")

FORM_TYPE = "multipart/form-data"
MAX_PARTS = 32
MAX_HEADER = 4096
"""Bytes of all headers of one part."""
MAX_HEADERS = 8
MAX_FIELD = 256 << 10
"""Bytes of one field that is no file; all of a form together may have four times as many."""
MAX_FIELDS = 4 * MAX_FIELD
MAX_NAME = 256
MAX_TYPE = 1024
MAX_BOUNDARY = 256


class Upload(Struct, frozen=True, kw_only=True):
    """A file of a form. ``data`` is empty where the reader keeps no files; ``size`` is in bytes either way.

    ``filename`` and ``content_type`` are what the client says, and prove nothing.
    """

    filename: str
    content_type: str
    data: bytes
    size: int


class Form(Struct, frozen=True, kw_only=True):
    """A whole form. Fields keep the name that the client wrote; files lose a trailing ``[]``."""

    fields: dict[str, list[str]]
    files: dict[str, list[Upload]]

    def file(self, name: str) -> Upload:
        """The one file called ``name``. Raises ``InvalidRequest`` where there is none, several, or an empty one."""
        found = self.files.get(name, [])
        if len(found) > 1:
            raise InvalidRequest(f"The form holds {len(found)} files called '{name}'; one is expected.", param=name)
        if not found or not found[0].size:
            fault = "is empty" if found and found[0].filename else "is missing from the form"
            raise InvalidRequest(f"The file '{name}' {fault}.", param=name, code="missing_required_parameter")
        return found[0]


def is_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == FORM_TYPE


class FormReader:
    """Takes a form piece by piece.

    Args:
        content_type: the request's header, which names the boundary.
        keep_files: whether the bytes of files are kept, or only counted.

    Every method raises ``InvalidRequest`` for a form that is broken or beyond the limits.
    """

    def __init__(self, content_type: str, *, keep_files: bool) -> None:
        self._keep_files = keep_files
        self._parser = _guarded(lambda: _parser(_boundary(content_type)))
        self._part: MultipartSegment | None = None
        self._pieces: list[bytes] = []
        self._field_bytes = 0
        self._fields: dict[str, list[str]] = {}
        self._files: dict[str, list[Upload]] = {}

    def feed(self, chunk: bytes) -> None:
        if chunk and not self._parser.closed:
            _guarded(lambda: self._feed(chunk))

    def finish(self) -> Form:
        _guarded(self._parser.close)
        return Form(fields=self._fields, files=self._files)

    def _feed(self, chunk: bytes) -> None:
        for event in self._parser.parse(chunk):
            if isinstance(event, MultipartSegment):
                self._begin(event)
            elif event is None:
                self._end()
            else:
                self._take(bytes(event))

    def _begin(self, part: MultipartSegment) -> None:
        if not part.name or len(part.name) > MAX_NAME:
            raise InvalidRequest("A part of the form has no name, or one that is too long.")
        if sum(len(name) + len(value) for name, value in part.headerlist) > MAX_HEADER:
            raise _beyond_limits()
        if any("\n" in text or "\r" in text for pair in part.headerlist for text in pair):
            raise InvalidRequest("A header of a part of the form has a line break in it.")  # found or not, by how it was cut
        self._part = part
        self._pieces = []

    def _take(self, piece: bytes) -> None:
        part = self._current()
        if _is_file(part):
            if self._keep_files:
                self._pieces.append(piece)
            return
        self._field_bytes += len(piece)
        if part.bytes_received > MAX_FIELD or self._field_bytes > MAX_FIELDS:
            raise InvalidRequest(f"The field '{part.name}' is too long.", param=part.name)
        self._pieces.append(piece)

    def _end(self) -> None:
        part = self._current()
        data = b"".join(self._pieces)
        self._pieces = []
        name = part.name or ""
        if _is_file(part):
            upload = Upload(
                filename=part.filename or "", content_type=part.content_type or "", data=data, size=part.bytes_received
            )
            self._files.setdefault(name.removesuffix("[]"), []).append(upload)
        else:
            self._fields.setdefault(name, []).append(_text(name, data))

    def _current(self) -> MultipartSegment:
        if self._part is None:
            raise ParserError("a part without a head")
        return self._part


def _is_file(part: MultipartSegment) -> bool:
    """By its file name, which may be empty; some clients give a content type only."""
    if part.filename is not None:
        return True
    kind = part.content_type or "text/plain"
    return not kind.startswith("text/") and kind != "application/json"


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"The field '{name}' is not valid UTF-8.", param=name) from None


def _boundary(content_type: str) -> str:
    boundary: str = parse_options_header(content_type[:MAX_TYPE])[1].get("boundary", "")
    if not boundary or len(boundary) > MAX_BOUNDARY or not boundary.isascii():
        raise InvalidRequest("The content type of the form names no usable boundary.")
    return boundary


def _parser(boundary: str) -> PushMultipartParser:
    return PushMultipartParser(
        boundary,
        max_header_size=MAX_HEADER,
        max_header_count=MAX_HEADERS,
        max_segment_size=math.inf,
        max_segment_count=MAX_PARTS,
    )


def _guarded(act: Callable[[], ResultT]) -> ResultT:
    """``act()``, with the parser's refusals in our words."""
    try:
        return act()
    except ParserLimitReached:
        raise _beyond_limits() from None
    except MultipartError:
        raise InvalidRequest("The form is malformed, or ends too early.") from None


def _beyond_limits() -> InvalidRequest:
    return InvalidRequest(f"The form has more than {MAX_PARTS} parts, or a part with over {MAX_HEADER} bytes of headers.")
