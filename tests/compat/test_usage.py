"""What was used is counted, limited, kept and shown: with the installed server, its workers, and OpenAI's own client."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

PATIENCE = 30.0  # seconds after which a test gives up, never what it expects
STORY: Any = [{"role": "user", "content": "Tell me a long story about the sea."}]
WITH_USAGE: Any = {"include_usage": True}


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class Place:
    """A server with keys, priced models and a folder of its own; asked with one key or another."""

    def __init__(self, start: Callable[..., Any], folder: Path, more: str) -> None:
        (folder / "nothing").mkdir()
        self.config = folder / "config.toml"
        self.config.write_text(
            f'[auth]\nkeys = ["sha256:{hashed("one")}", "sha256:{hashed("two")}"]\n'
            f'[storage]\ndir = "{folder / "kept"}"\n{more}\n'
            f'[models.echo]\nsource = "{folder / "nothing"}"\nkind = "echo"\n'
        )
        self._start = start
        self.begin()

    def begin(self) -> None:
        self.server = self._start(self.config)

    def restart(self) -> None:
        assert self.server.stop() == 0
        self.begin()

    def client(self, key: str = "one") -> openai.OpenAI:
        return openai.OpenAI(base_url=self.server.base_url, api_key=key, max_retries=0)

    def http(self, key: str = "one") -> httpx2.Client:
        return httpx2.Client(base_url=self.server.origin, headers={"authorization": f"Bearer {key}"}, timeout=60)

    def usage(self, key: str = "one", **query: Any) -> dict[str, Any]:
        with self.http(key) as http:
            answer = http.get("/v1/usage", params=query)
        assert answer.status_code == 200
        return dict(answer.json())

    def total(self, requests: int, key: str = "one", **query: Any) -> dict[str, Any]:
        """What was used, once so many requests are settled: the worker tells a moment after the answer's end."""
        deadline = time.monotonic() + PATIENCE
        while (total := self.usage(key, **query)["total"])["requests"] < requests and time.monotonic() < deadline:
            time.sleep(0.02)
        assert total["requests"] == requests
        return dict(total)


@pytest.fixture
def limited(start_server, tmp_path: Path) -> Callable[[str], Place]:
    """A server with some limits, and nothing that takes time to start."""
    return lambda limits: Place(start_server, tmp_path, f"[workers]\nfork_server = false\n[metering]\n{limits}\n")


@pytest.fixture(scope="module")
def shared(server: Any, tmp_path_factory: pytest.TempPathFactory, model_source: str, model: str) -> Iterator[Place]:
    """One server for the tests that only add to what was used; its real model has a price."""
    folder = tmp_path_factory.mktemp("usage")
    running: list[Any] = []

    def start(config: Path) -> Any:
        running.append(type(server)(config, folder))
        return running[-1]

    price = "price = { prompt = 1.0, completion = 2.0, request = 0.001 }\n"
    cache = '[cache]\nsize = "1MiB"\nwhen = "header"\n'
    yield Place(start, folder, f"{cache}[models.{model}]\n{model_source}{price}")
    assert [one.stop() for one in running] == [0]


def spent(place: Place, do: Callable[[], None], requests: int = 1, model: str = "") -> dict[str, Any]:
    """The difference that ``do`` makes."""
    query = {"model": model} if model else {}
    before = place.usage(**query)["total"]
    do()
    after = place.total(before["requests"] + requests, **query)
    return {name: round(after[name] - before[name], 9) for name in after}


def usage_of_whole(place: Place, client: Any, model: str, max_tokens: int) -> Any:
    """What a whole answer says that it took, once that is counted."""
    said: list[Any] = []
    ask = partial(client.chat.completions.create, model=model, messages=STORY, max_tokens=max_tokens, temperature=0)
    spent(place, lambda: said.append(ask().usage))
    return said[0]


def test_a_whole_answer_is_counted_as_its_usage_says(shared: Place, model: str) -> None:
    said: list[Any] = []
    with shared.client() as client:
        took = spent(
            shared,
            lambda: said.append(
                client.chat.completions.create(model=model, messages=STORY, max_tokens=12, temperature=0).usage
            ),
        )
    (usage,) = said
    assert (took["prompt_tokens"], took["completion_tokens"]) == (usage.prompt_tokens, usage.completion_tokens)
    assert (took["total_tokens"], took["estimated_tokens"]) == (usage.total_tokens, 0)
    assert took["cost"] == round((usage.prompt_tokens + 2 * usage.completion_tokens) / 1e6 + 0.001, 9)


@pytest.mark.parametrize("options", [{"stream_options": WITH_USAGE}, {}], ids=["asked for usage", "did not ask"])
def test_a_stream_is_counted_whether_or_not_it_tells(shared: Place, model: str, options: dict[str, Any]) -> None:
    with shared.client() as client:
        whole = usage_of_whole(shared, client, model, 12)

        def stream() -> None:
            with client.chat.completions.create(
                model=model, messages=STORY, max_tokens=12, temperature=0, stream=True, **options
            ) as chunks:
                told = [chunk.usage for chunk in chunks if chunk.usage is not None]
            assert [usage.total_tokens for usage in told] == ([whole.total_tokens] if options else [])

        took = spent(shared, stream, requests=1)
    assert (took["prompt_tokens"], took["completion_tokens"], took["estimated_tokens"]) == (
        whole.prompt_tokens,
        whole.completion_tokens,
        0,
    )


def test_a_stream_that_its_client_leaves_is_counted_as_far_as_it_went(shared: Place, model: str) -> None:
    seen: list[str] = []
    with shared.client() as client:
        whole = usage_of_whole(shared, client, model, 1)

        def leave() -> None:
            with client.chat.completions.create(
                model=model, messages=STORY, max_tokens=1500, temperature=0, stream=True, extra_body={"ignore_eos": True}
            ) as chunks:
                for chunk in chunks:
                    seen.append(chunk.choices[0].delta.content or "")
                    if len(seen) == 10:
                        break

        took = spent(shared, leave)
    assert took["prompt_tokens"] == whole.prompt_tokens
    assert len(seen) - 1 <= took["completion_tokens"] < 1500
    assert took["estimated_tokens"] == 0


def test_other_work_is_counted_too(shared: Place) -> None:
    with shared.client() as client:
        took = spent(shared, lambda: client.embeddings.create(model="echo", input=["one two", "three"]), model="echo")
    assert (took["prompt_tokens"], took["completion_tokens"], took["estimated_tokens"]) == (3, 0, 0)


def test_what_is_refused_counts_nothing(shared: Place) -> None:
    before = shared.usage()["total"]
    with shared.client() as client:
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="echo", messages=[])
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="nobody", messages=STORY)
    assert shared.usage()["total"] == before


def test_a_key_sees_its_own_and_a_stranger_nothing(shared: Place) -> None:
    ones, twos = (shared.usage(key)["total"] for key in ("one", "two"))
    with shared.client("two") as client:
        client.chat.completions.create(model="echo", messages=STORY)
    assert shared.total(twos["requests"] + 1, "two")["prompt_tokens"] == twos["prompt_tokens"] + 8
    assert {day["model"] for day in shared.usage("two")["data"]} == {"echo"}
    assert shared.usage("one")["total"] == ones
    with shared.http("three") as http:
        assert http.get("/v1/usage").status_code == 401


def test_metrics_tell_tokens_and_costs_by_key(shared: Place) -> None:
    with shared.client() as client:
        spent(shared, lambda: client.chat.completions.create(model="echo", messages=STORY))
    with shared.http() as http:
        text = http.get("/metrics").text
    key = hashed("one")[:16]
    assert f'openai_compat_tokens_total{{key="{key}",kind="prompt",model="echo"}}' in text
    assert f'openai_compat_cost_total{{key="{key}",model="echo"}}' in text
    assert hashed("one") not in text


def test_a_limit_is_a_429_that_says_when_to_come_again_and_another_key_has_its_own(limited) -> None:
    place = limited("tokens_per_minute = 200")
    with place.client() as client:
        client.chat.completions.create(model="echo", messages=STORY, max_tokens=60)
        place.total(1)
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="echo", messages=STORY, max_tokens=165)
        assert caught.value.code == "rate_limit_exceeded"
        assert 1 <= int(caught.value.response.headers["retry-after"]) <= 61
        client.chat.completions.create(model="echo", messages=STORY, max_tokens=20)  # what was reserved was given back
    with place.client("two") as client:
        client.chat.completions.create(model="echo", messages=STORY, max_tokens=60)


def test_what_was_used_and_its_limits_outlive_the_server(limited) -> None:
    place = limited("tokens_per_day = 100")
    with place.client() as client:
        client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "[[tokens=60]] go"}], max_tokens=60)
        before = place.total(1)
    place.restart()
    assert place.usage()["total"] == before
    assert place.usage("two")["total"]["requests"] == 0
    with place.client() as client, pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="echo", messages=STORY, max_tokens=30)
    assert caught.value.code == "insufficient_quota"


@pytest.fixture
def relayed(shared: Place, start_server, tmp_path: Path) -> Place:
    """A second server with the shared one as its upstream, at a price of its own."""
    more = (
        f'[workers]\nfork_server = false\n[upstreams.other]\nbase_url = "{shared.server.base_url}"\napi_key_env = "OTHER_KEY"\n'
        '[upstreams.other.models.remote]\nname = "echo"\nprice = { prompt = 10.0, completion = 20.0 }\n'
    )
    return Place(lambda config: start_server(config, env={"OTHER_KEY": "two"}), tmp_path, more)


def test_an_upstream_is_counted_by_its_usage_and_by_estimate_where_its_client_left(shared: Place, relayed: Place) -> None:
    words: Any = [{"role": "user", "content": "[[tokens=20]] go on"}]
    slow: Any = [{"role": "user", "content": "[[tokens=500]] [[delay=0.02]] go on"}]
    behind = shared.usage("two")["total"]
    with relayed.client() as client:
        client.chat.completions.create(model="remote", messages=words)
        with client.chat.completions.create(model="remote", messages=words, stream=True) as chunks:
            assert not any(chunk.usage for chunk in chunks)
        exact = relayed.total(2)
        with client.chat.completions.create(model="remote", messages=slow, stream=True) as chunks:
            for _ in range(10):
                next(iter(chunks))
    left = relayed.total(3)
    true = shared.total(behind["requests"] + 3, "two")
    assert (exact["prompt_tokens"], exact["completion_tokens"], exact["estimated_tokens"]) == (6, 40, 0)
    assert exact["cost"] == (6 * 10 + 40 * 20) / 1e6
    assert left["estimated_tokens"] == left["total_tokens"] - exact["total_tokens"]
    assert 5 <= left["completion_tokens"] - 40 < 100
    assert 9 <= true["completion_tokens"] - behind["completion_tokens"] - 40 < 500


def test_an_equal_request_is_answered_from_memory_and_counted_as_no_tokens(shared: Place) -> None:
    ask = {"model": "echo", "messages": [{"role": "user", "content": "one two three"}]}
    use = {"x-cache": "use"}

    def twice() -> None:
        with shared.http() as http:
            for body in (ask, {**ask, "stream": True}):
                first, second = (http.post("/v1/chat/completions", json=body, headers=use) for _ in range(2))
                assert [answer.headers["x-cache"] for answer in (first, second)] == ["miss", "hit"]
                assert first.content == second.content
                assert first.headers["content-type"] == second.headers["content-type"]
                assert first.headers["x-request-id"] != second.headers["x-request-id"]
            passed = http.post("/v1/chat/completions", json=ask, headers={**use, "cache-control": "no-cache"})
            assert "x-cache" not in passed.headers
        with shared.http("two") as http:
            assert http.post("/v1/chat/completions", json=ask, headers=use).headers["x-cache"] == "miss"

    took = spent(shared, twice, requests=5, model="echo")
    assert (took["prompt_tokens"], took["completion_tokens"], took["estimated_tokens"]) == (9, 9, 0)
