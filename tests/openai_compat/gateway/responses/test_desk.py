"""Responses asked for one after the other: what the model is shown, what is kept, and whose it is."""

from __future__ import annotations

import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from openai_compat.config import Upstream, UpstreamModel
from tests.compat.provider import Upstream as Provider


def test_a_response_goes_on_from_the_one_before_it_and_from_all_before_that(served) -> None:
    """The echo counts a word as a token: what it was asked with is as long as what was said so far."""
    with served() as client:
        first = client.ask("one", instructions="be brief").json()
        second = client.ask("two", previous_response_id=first["id"]).json()
        third = client.ask("three", previous_response_id=second["id"]).json()
    assert [answer["usage"]["input_tokens"] for answer in (first, second, third)] == [3, 3, 5]
    assert third["previous_response_id"] == second["id"]
    assert (second["instructions"], first["instructions"]) == (None, "be brief")


def test_what_is_read_again_is_what_was_answered(served) -> None:
    with served() as client:
        whole = client.ask("one", metadata={"a": "b"}, temperature=0.5).json()
        assert client.get(f"/v1/responses/{whole['id']}").json() == whole
        *_, last = client.events("two")
        assert last["type"] == "response.completed"
        assert client.get(f"/v1/responses/{last['response']['id']}").json() == last["response"]


def test_a_restarted_server_goes_on(served) -> None:
    with served() as client:
        first = client.ask("one").json()
    with served() as client:
        assert client.get(f"/v1/responses/{first['id']}").json() == first
        assert client.ask("two", previous_response_id=first["id"]).json()["usage"]["input_tokens"] == 3


def test_what_is_not_to_be_stored_is_nowhere(served, kept: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with served() as client:
        client.ask("the store is opened")
        found = client.ask("a canary", store=False).json()
        assert not found["store"]
        assert client.get(f"/v1/responses/{found['id']}").status_code == 404
        assert client.ask("x", previous_response_id=found["id"]).json()["error"]["code"] == "previous_response_not_found"
        client.events("a canary", store=False)
    assert not any(b"canary" in path.read_bytes() for path in kept.rglob("*") if path.is_file())
    assert "canary" not in caplog.text


def test_an_operator_s_no_is_stronger_than_a_client_s_yes(served, kept: Path) -> None:
    with served(store=False) as client:
        found = client.ask("a canary", store=True).json()
        assert (found["status"], found["store"]) == ("completed", False)
        assert client.get(f"/v1/responses/{found['id']}").status_code == 404
        assert client.ask("x", background=True).json()["error"]["param"] == "background"
        assert client.post("/v1/conversations", json={}).json()["error"]["code"] == "storage_disabled"
    assert not any(b"canary" in path.read_bytes() for path in kept.rglob("*") if path.is_file())


@pytest.mark.parametrize("place", ["", "/input_items", "?stream=true"])
def test_another_key_s_response_does_not_exist(served, bearer, place: str) -> None:
    with served(keys=("a", "b")) as client:
        mine = client.ask("one", key="a").json()["id"]
        theirs = client.get(f"/v1/responses/{mine}{place}", headers=bearer("b"))
        never = client.get(f"/v1/responses/resp_none{place}", headers=bearer("b"))
        assert theirs.status_code == never.status_code == 404
        assert theirs.text.replace(mine, "") == never.text.replace("resp_none", "")


def test_another_key_can_neither_change_nor_go_on_from_one(served, bearer) -> None:
    with served(keys=("a", "b")) as client:
        mine = client.ask("one", key="a").json()
        item = mine["output"][0]["id"]
        assert client.delete(f"/v1/responses/{mine['id']}", headers=bearer("b")).status_code == 404
        assert client.post(f"/v1/responses/{mine['id']}/cancel", headers=bearer("b")).status_code == 404
        refusal = client.ask("two", key="b", previous_response_id=mine["id"])
        assert (refusal.status_code, refusal.json()["error"]["param"]) == (400, "previous_response_id")
        refusal = client.ask([{"type": "item_reference", "id": item}], key="b")
        assert (refusal.status_code, refusal.json()["error"]["param"]) == (404, "input")
        assert client.ask([{"type": "item_reference", "id": item}], key="a").status_code == 200


def test_every_answer_is_of_its_own_key_s_history_however_many_ask_at_once(served, text_of) -> None:
    """Twenty turns of each of four keys, side by side: no word of one is in what another key reads or lists."""
    keys = ("alice", "bob", "carol", "dave")
    with served(keys=keys) as client:

        def talk(key: str) -> str:
            previous, seen = None, ""
            for turn in range(20):
                more = {} if previous is None else {"previous_response_id": previous}
                answer = client.ask(f"canary-of-{key} {turn}", key=key, **more)
                previous = answer.json()["id"]
                head = {"authorization": f"Bearer {key}"}
                seen += answer.text + client.get(f"/v1/responses/{previous}/input_items", headers=head).text
            return seen

        with ThreadPoolExecutor(len(keys)) as pool:
            seen = dict(zip(keys, pool.map(talk, keys), strict=True))
    for key, text in seen.items():
        assert {other for other in keys if f"canary-of-{other}" in text} == {key}


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"previous_response_id": "resp_none"}, 400, "previous_response_id"),
        ({"conversation": "conv_none"}, 404, "conversation"),
        ({"conversation": {"id": "conv_none"}}, 404, "conversation"),
        ({"conversation": "conv_a", "previous_response_id": "resp_a"}, 400, "conversation"),
        ({"input": [{"type": "item_reference", "id": "msg_none"}]}, 404, "input"),
        ({"background": True, "store": False}, 400, "background"),
        ({"model": "nothing"}, 404, "model"),
        ({"model": "nothing", "background": True}, 404, "model"),
        ({"model": "nothing", "stream": True}, 404, "model"),
        ({"temperature": 9}, 400, "temperature"),
        ({"text": {"format": {"type": "json_object"}}}, 400, "text.format"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "ftp://x"}]}]}, 400, None),
    ],
)
def test_what_cannot_be_is_refused_by_name_before_a_stream_begins(served, body, status: int, param: str | None) -> None:
    with served() as client:
        client.ask("the store is opened")
        for stream in (False, True):
            refusal = client.post("/v1/responses", json={"model": "echo", "input": "x", "stream": stream, **body})
            assert refusal.status_code == status
            assert refusal.headers["content-type"] == "application/json"
            error = refusal.json()["error"]
            assert param is None or error["param"] == param
            assert "response_format" not in error["message"]


def test_a_stream_that_fails_says_so_in_its_last_event_and_is_kept_as_failed(served) -> None:
    with served() as client:
        *_, last = client.events("[[fail_after=3]] a b c d e f")
        assert last["type"] == "response.failed"
        assert last["response"]["error"]["code"] == "server_error"
        again = client.get(f"/v1/responses/{last['response']['id']}").json()
        assert (again["status"], again["error"]) == ("failed", last["response"]["error"])


def test_the_oldest_part_goes_where_the_client_lets_it(served) -> None:
    with served(context_length=40) as client:
        long = " ".join(["word"] * 30)
        first = client.ask(long, max_output_tokens=2).json()
        asked = {"previous_response_id": first["id"], "max_output_tokens": 2}
        refusal = client.ask(long, **asked).json()["error"]
        assert (refusal["code"], refusal["param"]) == ("context_length_exceeded", "input")
        answer = client.ask(long, truncation="auto", **asked).json()
        assert (answer["status"], answer["usage"]["input_tokens"]) == ("incomplete", 32)  # what the model said may stay
        *_, last = client.events(long, truncation="auto", **asked)
        assert last["response"]["usage"]["input_tokens"] == 32


def test_a_request_that_gets_shorter_counts_once_for_its_key_s_limits(served) -> None:
    said = [{"role": "user", "content": "a few words"}] * 60
    with served(context_length=40, metering={"requests_per_minute": 3}) as client:
        answer = client.ask(said, truncation="auto")
        assert (answer.status_code, answer.headers["x-ratelimit-remaining-requests"]) == (200, "2")
        assert client.events(said, truncation="auto")[-1]["type"] == "response.completed"
        later = client.ask(said, truncation="auto", background=True).json()["id"]
        assert client.until(later, "completed", "failed")["status"] == "completed"
        assert client.ask("x").status_code == 429


def test_a_deleted_response_is_gone_with_its_items_and_breaks_what_goes_on_from_it(served, kept: Path) -> None:
    with served() as client:
        first = client.ask("a canary").json()
        second = client.ask("two", previous_response_id=first["id"]).json()
        assert client.delete(f"/v1/responses/{first['id']}").json() == {
            "id": first["id"], "object": "response", "deleted": True,
        }  # fmt: skip
        assert client.get(f"/v1/responses/{first['id']}").status_code == 404
        assert client.delete(f"/v1/responses/{first['id']}").status_code == 404
        refusal = client.ask("three", previous_response_id=second["id"]).json()["error"]
        assert refusal["code"] == "previous_response_not_found"
        assert first["id"] in refusal["message"]
    with sqlite3.connect(next(kept.glob("*.sqlite*"))) as connection:
        assert connection.execute("SELECT count(*) FROM items WHERE body LIKE '%canary%'").fetchone() == (0,)
    connection.close()


def test_the_items_of_a_request_are_listed_page_by_page(served) -> None:
    with served() as client:
        said = [{"role": "user", "content": word} for word in "abcde"]
        id = client.ask(said).json()["id"]

        def page(**query: Any) -> tuple[str, bool]:
            found = client.get(f"/v1/responses/{id}/input_items", params=query).json()
            assert [found["first_id"], found["last_id"]] == [found["data"][place]["id"] for place in (0, -1)]
            return "".join(item["content"][0]["text"] for item in found["data"]), found["has_more"]

        assert page() == ("edcba", False)
        assert page(order="asc", limit=2) == ("ab", True)
        last = client.get(f"/v1/responses/{id}/input_items", params={"order": "asc", "limit": 2}).json()["last_id"]
        assert page(order="asc", after=last, **{"include[]": "message.input_image.image_url"}) == ("cde", False)
        assert page(after=last) == ("a", False)
        for wrong in ({"after": "msg_none"}, {"limit": 0}, {"limit": 101}, {"order": "up"}):
            refusal = client.get(f"/v1/responses/{id}/input_items", params=wrong)
            assert (refusal.status_code, refusal.json()["error"]["param"]) == (400, next(iter(wrong)))


def test_the_oldest_responses_of_a_key_make_room_for_new_ones(served, bearer) -> None:
    with served(keys=("a", "b"), max_per_key=3) as client:
        theirs = client.ask("x", key="b").json()["id"]
        ids = [client.ask("x", key="a").json()["id"] for _ in range(5)]
        left = [client.get(f"/v1/responses/{id}", headers=bearer("a")).status_code for id in ids]
        assert left == [404, 404, 200, 200, 200]
        assert client.get(f"/v1/responses/{theirs}", headers=bearer("b")).status_code == 200


def test_bytes_count_too_and_what_is_too_large_is_answered_and_not_kept(served) -> None:
    with served(quota_per_key="64KiB") as client:
        small = client.ask("x").json()
        large = client.ask("y " * 15_500).json()
        assert (large["status"], large["store"]) == ("completed", True)
        assert client.get(f"/v1/responses/{small['id']}").status_code == 404
        huge = client.ask("y " * 20_000).json()
        assert (huge["status"], huge["store"]) == ("completed", False)
        assert client.get(f"/v1/responses/{huge['id']}").status_code == 404
        assert client.get(f"/v1/responses/{large['id']}").status_code == 200
        *_, last = client.events("y " * 20_000)
        assert not last["response"]["store"]


def test_responses_expire(served) -> None:
    with served(expiry=0.01) as client:
        id = client.ask("x").json()["id"]
        assert client.get(f"/v1/responses/{id}").status_code == 404
        assert client.ask("y", previous_response_id=id).status_code == 400


def test_what_is_asked_is_counted_without_an_answer(served) -> None:
    with served() as client:
        first = client.ask("one two").json()["id"]
        body = {"model": "echo", "input": "three", "previous_response_id": first}
        found = client.post("/v1/responses/input_tokens", json=body).json()
        assert found == {"object": "response.input_tokens", "input_tokens": 5}


def test_a_synchronous_response_is_neither_cancelled_nor_streamed_again(served) -> None:
    with served() as client:
        id = client.ask("x").json()["id"]
        for refusal in (client.post(f"/v1/responses/{id}/cancel"), client.get(f"/v1/responses/{id}?stream=true")):
            assert (refusal.status_code, refusal.json()["error"]["code"]) == (400, "not_in_background")
        assert client.post("/v1/responses/compact", json={}).json()["error"]["code"] == "unsupported_capability"
        assert client.post("/v1/responses/nonsense", json={}).status_code == 404


def test_limits_are_told_and_hold_as_for_chats(served) -> None:
    with served(metering={"requests_per_minute": 2}) as client:
        first, second, third = client.ask("x"), client.ask("x", stream=True), client.ask("x", stream=True)
        assert [answer.headers["x-ratelimit-remaining-requests"] for answer in (first, second)] == ["1", "0"]
        assert (third.status_code, third.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert third.headers["x-ratelimit-remaining-requests"] == "0"
        assert int(third.headers["retry-after"]) > 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_one_line_in_the_log_and_one_in_the_metrics(
    served, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    caplog.set_level(logging.INFO, "openai_compat.access")
    with served() as client:
        client.ask("x", stream=stream)
        metrics = client.get("/metrics").text
    lines = [record.getMessage() for record in caplog.records if record.name == "openai_compat.access"]
    asked = [line for line in lines if "/metrics" not in line]
    assert len(asked) == 1
    assert asked[0].startswith("POST /v1/responses 200 echo ")
    counted = [line for line in metrics.splitlines() if line.startswith("openai_compat_requests_total{")]
    assert [line for line in counted if 'route="/v1/responses"' in line and 'model="echo"' in line and line.endswith(" 1.0")]
    assert not [line for line in counted if "/v1/chat" in line]


def test_a_response_is_made_by_an_upstream_as_by_a_local_model(served, text_of) -> None:
    with Provider() as provider:
        upstream = Upstream(base_url=f"http://127.0.0.1:{provider.port}/v1", models={"m": UpstreamModel()})
        with served(upstreams={"mock": upstream}) as client:
            made = client.until(client.ask("x", model="m", background=True).json()["id"], "in_progress")
            provider.enough.set()
            made = client.until(made["id"], "completed", "failed")
            assert (made["status"], text_of(made)[-3:]) == ("completed", "end")
            whole = client.ask("x", model="m", previous_response_id=made["id"]).json()
            assert (text_of(whole), whole["usage"]["total_tokens"], whole["model"]) == ("Hi", 2, "m")
            *_, last = client.events("x", model="m", previous_response_id=whole["id"])
            assert (last["type"], text_of(last["response"])) == ("response.completed", "end")


def test_a_silent_model_s_stream_is_kept_alive(served) -> None:
    with served(server={"first_byte_timeout": 0.1, "ping_interval": 0.2}) as client:
        text = client.ask("[[first_delay=1.5]] x", stream=True).text
    assert text.startswith("event: response.created\n")
    assert ": ping\n\n" in text
