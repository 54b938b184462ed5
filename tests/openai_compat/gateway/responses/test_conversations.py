"""Conversations: made, added to by clients and by responses, listed, and nobody else's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

HELLO = {"role": "user", "content": "hello"}


def begin(client: Any, *said: str, **body: Any) -> str:
    items = [{"role": "user", "content": word} for word in said]
    return str(client.post("/v1/conversations", json={"items": items, **body}).json()["id"])


def said_in(client: Any, id: str, **query: Any) -> list[str]:
    found = client.get(f"/v1/conversations/{id}/items", params={"order": "asc", "limit": 100, **query}).json()
    return [item["content"][0]["text"] for item in found["data"]]


def test_a_conversation_is_made_changed_and_removed(served) -> None:
    with served() as client:
        made = client.post("/v1/conversations", json={"metadata": {"a": "b"}}).json()
        assert (made["object"], made["metadata"]) == ("conversation", {"a": "b"})
        url = f"/v1/conversations/{made['id']}"
        assert client.get(url).json() == made
        changed = client.post(url, json={"metadata": {"c": "d"}}).json()
        assert changed == {**made, "metadata": {"c": "d"}} == client.get(url).json()
        assert client.delete(url).json() == {"id": made["id"], "object": "conversation.deleted", "deleted": True}
        for refusal in (
            client.get(url),
            client.delete(url),
            client.get(f"{url}/items"),
            client.post(url, json={"metadata": {}}),
        ):
            assert (refusal.status_code, refusal.json()["error"]["param"]) == (404, "conversation")


def test_items_are_added_listed_read_and_removed(served) -> None:
    with served() as client:
        id = begin(client, "a")
        url = f"/v1/conversations/{id}/items"
        added = client.post(url, json={"items": [{"role": "user", "content": word} for word in "bc"]}).json()
        assert [item["content"][0]["text"] for item in added["data"]] == ["b", "c"]
        assert said_in(client, id) == ["a", "b", "c"]
        first, last = added["first_id"], added["last_id"]
        assert client.get(f"{url}/{first}").json() == added["data"][0]
        assert client.get(url, params={"limit": 1}).json()["last_id"] == last
        assert [item["id"] for item in client.get(url, params={"after": last, "limit": 1}).json()["data"]] == [first]
        assert client.delete(f"{url}/{first}").json()["id"] == id
        assert said_in(client, id) == ["a", "c"]
        assert client.get(f"{url}/{first}").status_code == client.delete(f"{url}/{first}").status_code == 404
        copied = client.post(url, json={"items": [{"type": "item_reference", "id": last}]}).json()
        assert copied["data"][0]["content"][0]["text"] == "c"


def test_a_page_of_large_items_has_fewer_of_them(served) -> None:
    """All that a key may keep, in one answer, would be more than the server can hold for many who ask for it."""
    items = [{"role": "user", "content": "y" * 3_000_000}] * 5 + [{"role": "user", "content": "z" * 10_000_000}]
    with served() as client:
        url = f"/v1/conversations/{client.post('/v1/conversations', json={'items': items}).json()['id']}/items"
        pages = [client.get(url, params={"limit": 100, "order": "asc"}).json()]
        while pages[-1]["has_more"]:
            pages.append(client.get(url, params={"limit": 100, "order": "asc", "after": pages[-1]["last_id"]}).json())
    assert [len(page["data"]) for page in pages] == [2, 2, 1, 1]
    assert [item["content"][0]["text"] for page in pages for item in page["data"]] == [item["content"] for item in items]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_come_to_their_end_also_where_items_have_one_id(served, order: str) -> None:
    """As where a conversation is given its own items once more."""
    items = [{"role": "user", "content": "x", "id": id} for id in ("a", "b", "c", "a", "b", "c")]
    with served() as client:
        url = f"/v1/conversations/{client.post('/v1/conversations', json={'items': items}).json()['id']}/items"
        page, seen = client.get(url, params={"limit": 2, "order": order}).json(), 1
        while page["has_more"]:
            page = client.get(url, params={"limit": 2, "order": order, "after": page["last_id"]}).json()
            seen += 1
            assert seen <= len(items)


def test_responses_go_on_from_a_conversation_and_add_to_it(served) -> None:
    with served() as client:
        id = begin(client, "one", "two")
        found = client.ask("three", conversation=id).json()
        assert (found["usage"]["input_tokens"], found["conversation"]) == (3, {"id": id})
        assert said_in(client, id) == ["one", "two", "three", "three"]
        *_, last = client.events("four", conversation={"id": id})
        assert last["response"]["usage"]["input_tokens"] == 5
        assert said_in(client, id)[4:] == ["four", "four"]
        later = client.ask("five", previous_response_id=found["id"]).json()
        assert later["usage"]["input_tokens"] == 5  # what the conversation had before it, it, and this
        assert client.ask("six", conversation=id, store=False).json()["store"] is False
        assert said_in(client, id)[6:] == ["six", "six"]


def test_a_response_that_fails_adds_nothing(served) -> None:
    with served() as client:
        id = begin(client, "one")
        *_, last = client.events("[[fail_after=1]] a b c", conversation=id)
        assert (last["type"], said_in(client, id)) == ("response.failed", ["one"])


def test_a_conversation_grows_by_responses_in_the_background(served) -> None:
    with served() as client:
        id = begin(client)
        client.until(client.ask("one", conversation=id, background=True).json()["id"], "completed")
        assert said_in(client, id) == ["one", "one"]


def test_of_many_at_once_on_one_conversation_no_item_is_lost(served) -> None:
    with served() as client:
        id = begin(client)
        client.ask("x")
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda number: client.ask(f"[[delay=0.01]] w{number}", conversation=id), range(20)))
        assert {answer.status_code for answer in answers} == {200}
        said = said_in(client, id)
    assert len(said) == 40
    assert {word for word in said if "delay" not in word} == {f"w{number}" for number in range(20)}


def test_a_conversation_that_is_removed_meanwhile_leaves_the_response(served) -> None:
    with served() as client:
        id = begin(client, "one")
        made = client.ask("[[delay=0.05]] [[tokens=20]] x", conversation=id, background=True).json()["id"]
        client.until(made, "in_progress")
        client.delete(f"/v1/conversations/{id}")
        found = client.until(made, "completed", "failed")
        assert (found["status"], found["store"]) == ("completed", True)
        assert client.ask("y", previous_response_id=made).json()["usage"]["input_tokens"] == 24  # without what was removed


def test_to_another_key_a_conversation_does_not_exist(served, bearer) -> None:
    with served(keys=("a", "b")) as client:
        url = f"/v1/conversations/{client.post('/v1/conversations', json={'items': [HELLO]}, headers=bearer('a')).json()['id']}"
        item = client.get(f"{url}/items", headers=bearer("a")).json()["data"][0]["id"]
        theirs = bearer("b")
        answers = [
            client.get(url, headers=theirs),
            client.post(url, json={"metadata": {}}, headers=theirs),
            client.get(f"{url}/items", headers=theirs),
            client.post(f"{url}/items", json={"items": [HELLO]}, headers=theirs),
            client.get(f"{url}/items/{item}", headers=theirs),
            client.delete(f"{url}/items/{item}", headers=theirs),
            client.delete(url, headers=theirs),
            client.ask("x", key="b", conversation=url.rpartition("/")[2]),
        ]
        assert {answer.status_code for answer in answers} == {404}
        assert len(client.get(f"{url}/items", headers=bearer("a")).json()["data"]) == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"items": [HELLO] * 21}, "items"),
        ({"items": "hello"}, "items"),
        ({"items": [{"role": "nobody", "content": "x"}]}, "items[0].role"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata"),
    ],
)
def test_what_is_no_conversation_is_refused_by_name(served, body: dict[str, Any], param: str) -> None:
    with served() as client:
        refusal = client.post("/v1/conversations", json=body)
        assert refusal.status_code == 400
        assert str(refusal.json()["error"]["param"]).startswith(param)


def test_conversations_do_not_make_room_for_one_another(served) -> None:
    with served(quota_per_key="64KiB") as client:
        id = begin(client, "x " * 20_000)
        full = client.post(f"/v1/conversations/{id}/items", json={"items": [{"role": "user", "content": "y " * 20_000}]})
        assert (full.status_code, full.json()["error"]["code"]) == (503, "storage_full")
        assert len(said_in(client, id)) == 1
        begin(client, "x")
        found = client.ask("y " * 20_000, conversation=id).json()
        assert (found["status"], found["store"], found["conversation"]) == ("completed", False, None)
