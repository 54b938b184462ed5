import asyncio

import pytest

from openai_compat.errors import RateLimited
from openai_compat.protocol import Done, RelayFacts
from openai_compat.worker.status import Ledger
from openai_compat.worker.track import Track


def scope_of(headers: dict[str, str], kind: str = "http"):
    return {"type": kind, "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]}


def through(scope) -> tuple[list, list]:
    """What was open while the app ran, and what was sent in the end."""
    sent, seen = [], []
    ledger = Ledger(sent.append)

    async def app(scope, receive, send):
        seen.extend(ledger.open)

    asyncio.run(Track(app, ledger, lambda patience: None)(scope, None, None))
    return seen, sent


FACTS = RelayFacts(request_id="r/é", model="m", public_model="m").to_headers()


def test_a_relayed_request_is_open_while_it_is_answered_and_done_after():
    assert through(scope_of(FACTS)) == (["r/é"], [Done("r/é")])


@pytest.mark.parametrize(
    "scope",
    [scope_of({}), scope_of({"x-oc-facts": "nonsense"}), scope_of({"x-oc-facts": "%ff"}), {"type": "lifespan"}],
    ids=["none", "nonsense", "no text", "lifespan"],
)
def test_everything_else_passes_unseen(scope):
    assert through(scope) == ([], [])


def test_a_request_whose_app_fails_is_done_too():
    sent = []
    ledger = Ledger(sent.append)

    async def app(scope, receive, send):
        raise EOFError

    with pytest.raises(EOFError):
        asyncio.run(Track(app, ledger, lambda patience: None)(scope_of(FACTS), None, None))
    assert sent == [Done("r/é")]


def test_a_request_that_is_turned_away_is_answered_after_its_body_and_never_reaches_the_app():
    received, sent, told = [], [], []
    ledger = Ledger(told.append)
    body = [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.request", "body": b"y"}]

    async def app(scope, receive, send):
        raise AssertionError

    async def receive():
        received.append(body.pop(0))
        return received[-1]

    async def send(message):
        sent.append((len(received), message))

    def refuse(patience):
        assert patience == 600.0
        raise RateLimited("Too many.", retry_after=7)

    asyncio.run(Track(app, ledger, refuse)(scope_of(FACTS), receive, send))
    assert told == [Done("r/é")]
    assert [read for read, _ in sent] == [2, 2]
    start = sent[0][1]
    assert start["status"] == 429
    assert (b"retry-after", b"7") in start["headers"]
