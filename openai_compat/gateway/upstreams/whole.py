"""Answers that are no streams: read whole, looked at, and given on as they are but for the model's name."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from http import HTTPStatus

import msgspec

from openai_compat.errors import APIError
from openai_compat.gateway.order import Order
from openai_compat.gateway.replica import Headers
from openai_compat.gateway.upstreams.errors import MIXED_UP, NOTHING, failure_of, nonsense, too_late
from openai_compat.gateway.upstreams.patience import Patience
from openai_compat.gateway.upstreams.pieces import Whole, count_usage, is_text, read_whole, repaired, rewritten
from openai_compat.gateway.upstreams.plan import SendPlan
from openai_compat.gateway.upstreams.said import read_error
from openai_compat.gateway.upstreams.scrub import hidden

LONGEST_WHOLE = 64 << 20
"""Bytes of an answer that is looked at. Of a longer one so many are held until it goes on, unseen."""
LONGEST_ERROR = 1 << 16
NO_CONTENT = 204
"""A plain number, since those of ``HTTPStatus`` are slow to come by."""
_SLOWEST = 1024  # bytes a second; what is slower than this for longer than ``idle_timeout`` never ends
_LONGEST_BLANK = 1 << 20  # bytes of spaces before an answer
_LOOK = 1024  # bytes of a list that are looked at to see whether it is empty
_LENGTHS = frozenset({b"content-length", b"content-encoding"})
_STREAMS = ("/v1/chat/", "/v1/completions", "/v1/responses")  # of sounds and pictures some models send no streams
_LISTS = {
    "/v1/chat/completions": "choices",
    "/v1/completions": "choices",
    "/v1/embeddings": "data",
    "/v1/images/generations": "data",
    "/v1/images/edits": "data",
    "/v1/images/variations": "data",
}
_NO_JSON = "The model's upstream answered with something that is no JSON object."


class Ready:
    """An answer that is in memory. ``error`` is what it says, where it is a refusal."""

    def __init__(self, status: int, headers: Headers, body: bytes, error: APIError | None = None) -> None:
        self.status = status
        self.error = error
        self.headers: Headers = [pair for pair in headers if pair[0].lower() not in _LENGTHS]
        if status != NO_CONTENT:
            self.headers.append((b"content-length", str(len(body)).encode()))
        self._body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        if self._body:
            yield self._body


def is_stream(order: Order) -> bool:
    """Whether the answer can be nothing but a stream of events, or a refusal."""
    return order.envelope.streams and order.path.startswith(_STREAMS)


async def read_body(patience: Patience, idle: float) -> tuple[list[bytes], bool]:
    """The answer's pieces, and whether they are all. Raises ``Failure`` when they come too slowly, in bytes a second.

    Some upstreams send spaces while they work; the speed counts from the first byte that is none.
    """
    chunks: list[bytes] = []
    size, began = 0, 0.0
    while chunk := await patience.read():
        chunks.append(chunk)
        size += len(chunk)
        if not began and chunk.isspace():
            if size > _LONGEST_BLANK:
                raise nonsense(NOTHING)
            patience.comment()
            continue
        patience.event()
        began = began or time.monotonic()
        if time.monotonic() - began > idle + size / _SLOWEST:
            raise too_late("The answer of the model's upstream came too slowly.")
        if size > LONGEST_WHOLE:
            return chunks, False
    return chunks, True


def checked(body: bytes, plan: SendPlan) -> bytes:
    """``body`` as the client gets it. Raises ``Failure`` or ``Refusal`` for one that is no answer."""
    if not body or body.isspace():
        raise nonsense(NOTHING)
    if not is_text(body):
        raise nonsense(_NO_JSON)
    whole, body = _read(body)
    _check_error(body, whole, plan)
    _check_list(whole, plan)
    count_usage(whole.usage, plan.order.tally.used)
    if plan.echo is not None and whole.model is not msgspec.UNSET:
        return rewritten(body, model=plan.echo[1])
    return body


def _read(body: bytes) -> tuple[Whole, bytes]:
    for _ in range(2):
        try:
            return read_whole(body), body
        except (msgspec.DecodeError, RecursionError):
            body = repaired(body) or body
    raise nonsense(_NO_JSON)


def _check_error(body: bytes, whole: Whole, plan: SendPlan) -> None:
    """An error may come with a status of success, or a whole answer where a stream was asked for."""
    listed = plan.order.path in _LISTS
    # Answers of ``/responses`` and ``/videos`` tell of their own errors in a field of this name, and are no errors.
    marked = whole.object == "error" or (whole.error and (listed or whole.object is None))
    bare = listed and whole.choices is msgspec.UNSET and whole.data is msgspec.UNSET
    if marked or bare:
        said = read_error(body[:LONGEST_ERROR], hidden(plan))
        if marked or said.message:
            status = said.status or HTTPStatus.INTERNAL_SERVER_ERROR
            raise failure_of(status, said, names_model=plan.order.envelope.model is not None)
    if is_stream(plan.order):
        raise nonsense(MIXED_UP)


def _check_list(whole: Whole, plan: SendPlan) -> None:
    wanted = _LISTS.get(plan.order.path)
    if wanted is not None:
        found = whole.choices if wanted == "choices" else whole.data
        if not isinstance(found, msgspec.Raw) or not _is_filled(found):
            raise nonsense(f"The answer of the model's upstream has no {wanted}.")


def _is_filled(raw: msgspec.Raw) -> bool:
    """Whether it is a list with something in it."""
    start = bytes(memoryview(raw)[:_LOOK])
    return start.startswith(b"[") and not start[1:].lstrip().startswith(b"]")
