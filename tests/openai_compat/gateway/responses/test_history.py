"""What a request goes on from has bounds: a few bytes of a request must not become gigabytes of a chat."""

from __future__ import annotations

import pytest

from openai_compat.gateway.responses.history import MAX_ITEMS
from schemas.responses import MAX_ITEMS as AT_ONCE


def _stored(client, id: str, text: str) -> None:
    item = {"type": "message", "role": "user", "id": id, "content": text}
    assert client.post("/v1/conversations", json={"items": [item]}).status_code == 200


@pytest.mark.parametrize("place", ["responses", "responses/input_tokens", "conversations"])
def test_an_item_that_is_referred_to_often_counts_as_often(served, place: str) -> None:
    with served(server={"max_body": "100KiB"}) as client:
        _stored(client, "msg_large", "y" * 40_000)

        def ask(times: int) -> tuple[int, str | None]:
            items = [{"type": "item_reference", "id": "msg_large"}] * times
            body = {"items": items} if place == "conversations" else {"model": "echo", "input": items}
            answer = client.post(f"/v1/{place}", json=body)
            return answer.status_code, (answer.json().get("error") or {}).get("code")

        assert ask(2) == (200, None)
        assert ask(3) == (400, "history_too_large")


def test_items_that_are_referred_to_and_a_history_share_one_bound(served) -> None:
    with served(server={"max_body": "100KiB"}) as client:
        _stored(client, "msg_large", "y" * 60_000)
        before = client.ask("y" * 60_000).json()["id"]
        both = client.ask([{"type": "item_reference", "id": "msg_large"}], previous_response_id=before)
        assert (both.status_code, both.json()["error"]["code"]) == (400, "history_too_large")


def test_a_history_of_very_many_tiny_items_is_refused(served) -> None:
    """Megabytes of them would hold up everybody while they are read."""
    tiny = [{"type": "compaction", "id": "x"}] * (AT_ONCE - 1)
    with served() as client:
        previous = None
        for _ in range(MAX_ITEMS // AT_ONCE):
            made = client.ask([*tiny, {"role": "user", "content": "x"}], previous_response_id=previous)
            assert made.status_code == 200
            previous = made.json()["id"]
        refusal = client.ask("x", previous_response_id=previous)
        assert (refusal.status_code, refusal.json()["error"]["code"]) == (400, "history_too_large")
