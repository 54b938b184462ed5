"""What is kept of a response, and what clients see of it again."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct, structs

from openai_compat.gateway.responses.orders import Order
from openai_compat.gateway.responses.rows import RESPONSE, UNFINISHED, Draft, Item, Row
from schemas.responses_answer import Response, ResponseError

FINISHED_WELL = ("completed", "incomplete")
RESTARTED = ResponseError(code="server_error", message="The server was restarted before the response was finished.")


class ResponseRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``response`` has no output: its items are rows of their own. ``conversation`` and ``until`` are what it went on from
    (``history`` reads them), ``last`` is the number of its last event.
    """

    response: Response
    conversation: str | None = None
    until: int = 0
    last: int = 0


_record = msgspec.json.Decoder(ResponseRecord)


def draft_of(order: Order, response: Response, *, expires: int, last: int = 0) -> Draft:
    record = ResponseRecord(
        response=structs.replace(response, output=[]), conversation=order.conversation, until=order.until, last=last
    )
    return Draft(
        id=order.id,
        kind=RESPONSE,
        owner=order.owner,
        status=response.status,
        created=order.created,
        expires=expires,
        body=msgspec.json.encode(record),
        previous=order.request.previous_response_id,
        inputs=order.inputs,
        outputs=response.output,
    )


def record_of(row: Row) -> ResponseRecord:
    return _record.decode(row.body)


def shown(row: Row, output: Sequence[Item]) -> Response:
    """One that an earlier server left unfinished is told as failed, also before that is written."""
    response = structs.replace(_record.decode(row.body).response, output=list(output))
    return failed(response) if row.status in UNFINISHED else response


def failed(response: Response) -> Response:
    return structs.replace(response, status="failed", error=RESTARTED)
