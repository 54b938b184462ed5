import asyncio

import pytest

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

    asyncio.run(Track(app, ledger)(scope, None, None))
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
        asyncio.run(Track(app, ledger)(scope_of(FACTS), None, None))
    assert sent == [Done("r/é")]
