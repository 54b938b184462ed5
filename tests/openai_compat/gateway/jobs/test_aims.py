"""An order for a video is a request as any other; making it is none."""

from __future__ import annotations

from openai_compat.auth import hash_key

SLOW = "sea [[step_delay=0.2]]"
ONE = {"authorization": "Bearer one"}


def test_an_order_counts_as_a_request_and_is_told_what_is_left(served) -> None:
    with served(metering={"requests_per_minute": 2}) as client:
        answers = [client.order() for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["1", "0", "0"]
        assert answers[2].json()["error"]["code"] == "rate_limit_exceeded"
        assert 50 <= int(answers[2].headers["retry-after"]) <= 61
        for _ in range(5):  # looking is no request to a model
            assert client.get("/v1/videos").status_code == 200
            assert "x-ratelimit-limit-requests" not in client.get(f"/v1/videos/{answers[0].json()['id']}").headers
        assert len(client.get("/v1/videos").json()["data"]) == 2


def test_a_video_that_is_made_has_no_place_among_the_requests_that_run(served) -> None:
    with served(metering={"concurrent_requests": 1}) as client:
        id = client.order(prompt=SLOW, frames=20).json()["id"]
        client.until(id, "in_progress")
        assert client.order().status_code == 200
        assert client.get("/v1/usage").json()["limits"]["concurrent_requests"]["used"] == 0
        client.delete(f"/v1/videos/{id}")


def test_a_remix_counts_too_and_another_key_has_limits_of_its_own(served) -> None:
    keys = (hash_key("one"), hash_key("two"))
    with served(keys=keys, metering={"requests_per_minute": 2}) as client:
        client.headers.update(ONE)
        id = client.made()["id"]
        remixed = [client.post(f"/v1/videos/{id}/remix", json={"prompt": "more sea"}) for _ in range(2)]
        assert [answer.status_code for answer in remixed] == [200, 429]
        client.headers.update({"authorization": "Bearer two"})
        assert client.order().status_code == 200
