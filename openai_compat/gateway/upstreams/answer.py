"""What comes back from an upstream, made safe: an answer for the client, or a ``Failure`` before its first byte."""

from __future__ import annotations

import logging
from typing import Literal

from openai_compat.gateway.order import Failure, Order
from openai_compat.gateway.replica import Answer, Headers
from openai_compat.gateway.upstreams.errors import (
    MIXED_UP,
    NOTHING,
    Refusal,
    failure_of,
    nonsense,
)
from openai_compat.gateway.upstreams.flow import Passing, Streaming, first_events
from openai_compat.gateway.upstreams.patience import Patience
from openai_compat.gateway.upstreams.plan import Response, SendPlan
from openai_compat.gateway.upstreams.said import read_error, retry_after_of
from openai_compat.gateway.upstreams.scrub import hidden
from openai_compat.gateway.upstreams.stream import Guard, Rules
from openai_compat.gateway.upstreams.whole import LONGEST_ERROR, NO_CONTENT, Ready, checked, read_body

logger = logging.getLogger(__name__)
_ERROR_PATIENCE = 10.0  # seconds for the body of a refusal, whose status says enough
_EVENTS, _JSON, _PAGES = "text/event-stream", "application/json", ("text/html", "application/xhtml")
_SUCCESS = range(200, 300)
_MEDIA = ("audio/", "video/", "image/", "application/octet-stream")
# Of an upstream's headers the client gets only these: others are about its account there, or about that one hop.
_KEPT = frozenset(
    {
        b"accept-ranges", b"cache-control", b"content-disposition", b"content-length", b"content-range", b"content-type",
        b"etag", b"last-modified", b"openai-processing-ms", b"openai-version", b"x-accel-buffering",
    }
)  # fmt: skip
_LENGTHS = frozenset({b"content-length", b"content-encoding"})
_CHATS = frozenset({"/v1/chat/completions", "/v1/completions"})
_ENDING = ("/v1/responses", "/v1/audio/", "/v1/images/")
_SPEECH = "/v1/audio/speech"
_TEXTS = frozenset({"/v1/audio/transcriptions", "/v1/audio/translations"})


async def begin(response: Response, plan: SendPlan) -> Answer:
    """The answer whose head is ``response``. A client error of the upstream is an answer too, in OpenAI's shape.

    Raises ``Failure`` for everything that another target might do better. Whoever calls this closes ``response``.
    """
    first, idle = plan.upstream.first_byte_timeout, plan.upstream.idle_timeout
    patience = Patience(response, first=first, idle=idle, deadline=plan.order.deadline, glances=plan.glances)
    try:
        return await _begin(response, plan, patience)
    except Refusal as refusal:
        return Ready(refusal.status, [(b"content-type", _JSON.encode())], refusal.body, refusal.error)
    except Failure as failure:
        if failure.cause != "context":  # which is the client's doing
            logger.warning("upstream '%s': %s", plan.target.upstream, failure.error.message)
        raise
    finally:
        patience.close()


async def _begin(response: Response, plan: SendPlan, patience: Patience) -> Answer:
    if response.status not in _SUCCESS:
        raise await _refused(response, plan, patience)
    if response.status == NO_CONTENT:
        if plan.order.method == "POST":
            raise nonsense(NOTHING)
        return Ready(response.status, [], b"")
    match _way(_type_of(response), plan.order):
        case "events":
            return await _events(plan, patience)
        case "json":
            return await _whole(response, plan, patience)
        case "bytes":
            return await _bytes(response, patience)
        case _:
            raise nonsense(MIXED_UP)


def _type_of(response: Response) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _way(kind: str, order: Order) -> Literal["events", "json", "bytes", ""]:
    """How an answer of this type is to be read, as one to this request; empty where it cannot be one."""
    speech = order.path == _SPEECH
    if kind == _EVENTS:
        return "events" if order.envelope.stream or speech else ""  # some take 1 for true
    if kind.startswith(_PAGES):
        return ""
    if kind == _JSON or kind.endswith("+json"):
        return "json"
    if order.path.endswith("/content") or (speech and (not kind or kind.startswith(_MEDIA))):
        return "bytes"
    if kind.startswith("text/") and order.path in _TEXTS:
        return "bytes"
    return "" if kind or speech else "json"


async def _refused(response: Response, plan: SendPlan, patience: Patience) -> Failure | Refusal:
    body = bytearray()
    patience.pause_for(_ERROR_PATIENCE)
    try:
        while len(body) < LONGEST_ERROR and (chunk := await patience.read()):
            body += chunk
    except Failure:
        body.clear()  # half an error says less than none
    said = read_error(bytes(body[:LONGEST_ERROR]), hidden(plan))
    wait = retry_after_of(response.headers)
    found = failure_of(response.status, said, names_model=plan.order.envelope.model is not None, retry_after=wait)
    if isinstance(found, Failure):  # of other refusals the words are the client's, and may repeat what it asked
        logger.info("upstream '%s' answered %d: %s", plan.target.upstream, response.status, " ".join(said.message.split()))
    return found


async def _events(plan: SendPlan, patience: Patience) -> Answer:
    order = plan.order
    guard = Guard(
        Rules(
            chat=order.path in _CHATS,
            ends=order.path.startswith(_ENDING),
            used=order.tally.used,
            drop_usage=plan.asked_usage,
            model=plan.echo[1] if plan.echo else None,
            secrets=hidden(plan),
            names_model=order.envelope.model is not None,
        )
    )
    first = await first_events(guard, patience)
    patience.pause_for(plan.ping_interval)
    return Streaming(guard, first, patience, plan.target.upstream)


async def _whole(response: Response, plan: SendPlan, patience: Patience) -> Answer:
    chunks, complete = await read_body(patience, plan.upstream.idle_timeout)
    if not complete:
        return Passing(response.status, _kept(response), chunks, patience)
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    return Ready(response.status, _kept(response), checked(body, plan))


async def _bytes(response: Response, patience: Patience) -> Answer:
    """Speech, films, texts: held back until there is a first byte. In a text of a silent recording there never is."""
    first = await patience.read()
    if not first and not _type_of(response).startswith("text/"):
        raise nonsense(NOTHING)
    patience.event()
    return Passing(response.status, _kept(response), [first] if first else [], patience)


def _kept(response: Response) -> Headers:
    kept = [(lower, value) for name, value in response.raw_headers if (lower := name.lower()) in _KEPT]
    if "Content-Encoding" in response.headers:  # undone as it is read
        return [pair for pair in kept if pair[0] not in _LENGTHS]
    return kept
