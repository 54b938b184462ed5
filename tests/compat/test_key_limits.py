"""A key's own limits, with the installed server, its workers, and OpenAI's own client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import psutil
import pytest

from openai_compat.gateway.store.place import DATABASE
from openai_compat.keys.file import KeyFile
from openai_compat.keys.keeper import KeyKeeper
from schemas.admin import CreateKey, Limits, UpdateKey

PATIENCE = 30.0  # seconds after which a test gives up, never what it expects
HELLO: Any = [{"role": "user", "content": "one two"}]
SLOW: Any = [{"role": "user", "content": "[[tokens=400]] [[delay=0.05]] go on"}]
TOLD = "x-ratelimit-"


class Place:
    """A server whose keys are made while it runs, or before."""

    def __init__(self, start: Callable[[Path], Any], folder: Path, more: str = "") -> None:
        (folder / "nothing").mkdir()
        self.config = folder / "config.toml"
        self.config.write_text(
            f'[storage]\ndir = "{folder / "kept"}"\n[workers]\nfork_server = false\n[cache]\nsize = "1MiB"\nwhen = "header"\n'
            f'[models.echo]\nsource = "{folder / "nothing"}"\nkind = "echo"\nprice = {{ request = 1.0 }}\n{more}'
        )
        self._file = folder / "kept" / DATABASE
        self._start = start
        self._ids: dict[str, str] = {}
        self.key()
        self.server = start(self.config)

    def key(self, **limits: Any) -> str:
        made = self._kept(lambda keeper: keeper.create(CreateKey(limits=Limits(**limits))))
        self._ids[made.secret] = made.key.id
        return str(made.secret)

    def change(self, key: str, **limits: Any) -> None:
        self._kept(lambda keeper: keeper.update(self._ids[key], UpdateKey(limits=Limits(**limits))))

    def spent(self, key: str) -> float:
        return float(self._kept(lambda keeper: keeper.get(self._ids[key])).spent / 10**12)

    def client(self, key: str, retries: int = 0) -> openai.OpenAI:
        """Once the server knows the key."""
        client = openai.OpenAI(base_url=self.server.base_url, api_key=key, max_retries=retries, timeout=60)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                client.models.list()
                return client
            except openai.AuthenticationError:
                time.sleep(0.05)
        raise TimeoutError

    def limits(self, key: str) -> dict[str, Any]:
        with httpx2.Client(base_url=self.server.origin, headers={"authorization": f"Bearer {key}"}) as http:
            return dict(http.get("/v1/usage").json()["limits"])

    def until(self, key: str, name: str, used: float) -> None:
        deadline = time.monotonic() + PATIENCE
        while (found := self.limits(key)[name]["used"]) != used and time.monotonic() < deadline:
            time.sleep(0.02)
        assert found == used

    def _kept(self, do: Callable[[KeyKeeper], Any]) -> Any:
        async def scenario() -> Any:
            file = KeyFile(self._file)
            try:
                return await do(KeyKeeper(file))
            finally:
                await file.close()

        return asyncio.run(scenario())


class _Far(BaseHTTPRequestHandler):
    """An upstream that tells of its own limits; its streams go on until nobody reads them."""

    def do_POST(self) -> None:
        if json.loads(self.rfile.read(int(self.headers["content-length"]))).get("stream"):
            self._go_on()
            return
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "far"}}
        body = json.dumps(
            {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice],
             "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
        ).encode()  # fmt: skip
        self.send_response(200)
        for name, value in (("content-type", "application/json"), ("content-length", str(len(body)))):
            self.send_header(name, value)
        self.send_header("x-ratelimit-limit-requests", "424242")
        self.send_header("x-ratelimit-remaining-images", "424242")
        self.end_headers()
        self.wfile.write(body)

    def _go_on(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
        event = json.dumps({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(f"data: {event}\n\n".encode())
                time.sleep(0.05)

    def log_message(self, format: str, *args: Any) -> None:
        """Not into the test's output."""


@pytest.fixture(scope="module")
def place(serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("limits")
    far = ThreadingHTTPServer(("127.0.0.1", 0), _Far)
    threading.Thread(target=far.serve_forever, daemon=True).start()
    upstream = f'[upstreams.far]\nbase_url = "http://127.0.0.1:{far.server_address[1]}/v1"\n[upstreams.far.models.remote]\n'
    upstream += '[routes.both]\ntargets = ["echo", "remote"]\nhedge_after = 0.05\n'
    running = Place(lambda config: serve(config, folder), folder, upstream)
    yield running
    assert running.server.stop() == 0
    far.shutdown()
    far.server_close()


def told(headers: Any) -> dict[str, str]:
    return {name.removeprefix(TOLD): value for name, value in headers.items() if name.startswith(TOLD)}


@pytest.mark.parametrize("way", ["local", "stream", "upstream", "cached", "refused by the model"])
def test_the_sdk_reads_what_is_left_on_every_sort_of_answer(place: Place, way: str) -> None:
    with place.client(place.key(requests_per_minute=20, tokens_per_day=5000)) as client:
        ask: dict[str, Any] = {"model": "echo", "messages": HELLO, "max_tokens": 10}
        before = 0
        match way:
            case "stream":
                headers = client.chat.completions.with_raw_response.create(**ask, stream=True).headers
            case "upstream":
                headers = client.chat.completions.with_raw_response.create(**{**ask, "model": "remote"}).headers
            case "cached":
                use = {"x-cache": "use"}
                client.chat.completions.create(**ask, extra_headers=use)
                headers = client.chat.completions.with_raw_response.create(**ask, extra_headers=use).headers
                assert headers["x-cache"] == "hit"
                before = 1
            case "refused by the model":
                with pytest.raises(openai.BadRequestError) as caught:
                    client.embeddings.create(model="echo", input=[])
                headers = caught.value.response.headers
            case _:
                headers = client.chat.completions.with_raw_response.create(**ask).headers
    said = told(headers)
    assert set(said) == {f"{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")}
    assert (said["limit-requests"], said["remaining-requests"]) == ("20", str(19 - before))
    assert said["reset-requests"] == "1m1s"
    assert re.fullmatch(r"24h\d+m\d+s", said["reset-tokens"])
    assert said["limit-tokens"] == "5000"
    assert 4900 < int(said["remaining-tokens"]) < 5000


def test_a_key_without_limits_is_told_of_none(place: Place) -> None:
    with place.client(place.key()) as client:
        for model in ("echo", "remote"):
            assert told(client.chat.completions.with_raw_response.create(model=model, messages=HELLO).headers) == {}
        assert place.limits(client.api_key) == {}


def test_the_request_after_the_last_is_refused_until_there_is_room(place: Place) -> None:
    key = place.key(requests_per_minute=2)
    with place.client(key) as client:
        for _ in range(2):
            client.chat.completions.create(model="echo", messages=HELLO)
        client.models.list()  # which is no request to a model
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="echo", messages=HELLO)
    headers = caught.value.response.headers
    assert caught.value.code == "rate_limit_exceeded"
    assert 50 <= int(headers["retry-after"]) <= 61
    assert told(headers)["remaining-requests"] == "0"
    assert place.limits(key) == {"requests_per_minute": {"limit": 2, "used": 2, "remaining": 0}}


def test_of_a_thousand_at_once_exactly_a_hundred_come_through(place: Place) -> None:
    """Within a minute: those that were let through are no older, or there is nothing to see."""
    key = place.key(requests_per_minute=100)
    place.client(key).close()
    with (
        httpx2.Client(base_url=place.server.origin, timeout=60, headers={"authorization": f"Bearer {key}"}) as http,
        ThreadPoolExecutor(40) as pool,
    ):
        began = time.monotonic()
        ask = {"model": "remote", "messages": HELLO}
        got = list(pool.map(lambda _: http.post("/v1/chat/completions", json=ask).status_code, range(1000)))
        assert time.monotonic() - began < 60
    assert (got.count(200), got.count(429)) == (100, 900)


def test_the_sdks_own_retry_gets_through_once_there_is_a_place(place: Place) -> None:
    with place.client(place.key(concurrent_requests=1)) as client:
        words: Any = [{"role": "user", "content": "[[tokens=20]] [[delay=0.05]] go on"}]
        stream = client.chat.completions.create(model="echo", messages=words, stream=True)
        next(iter(stream))
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="echo", messages=HELLO)
        assert caught.value.code == "concurrency_limit_exceeded"
        assert caught.value.response.headers["retry-after"] == "1"
        again = client.with_options(max_retries=5)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(again.chat.completions.with_raw_response.create, model="echo", messages=HELLO)
            for _ in stream:
                pass
            assert answer.result().retries_taken >= 1


@pytest.mark.parametrize("path", ["chat/completions", "responses", "messages", "messages/count_tokens", "decisions"])
def test_a_body_that_is_still_to_come_has_a_place(place: Place, path: str) -> None:
    key = place.key(concurrent_requests=1)
    place.client(key).close()
    address = urlsplit(place.server.base_url)
    head = f"POST /v1/{path} HTTP/1.1\r\nhost: {address.netloc}\r\nauthorization: Bearer {key}\r\ncontent-length: 9\r\n\r\n"
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection((address.hostname, address.port), 10)) for _ in range(2)]
        for client in clients:
            client.sendall(head.encode())
        refused = select.select(clients, [], [], PATIENCE)[0]
        assert [client.recv(12) for client in refused] == [b"HTTP/1.1 429"]


@pytest.mark.parametrize("stream", [False, True])
def test_one_after_the_other_is_never_too_many_at_once(place: Place, stream: bool) -> None:
    """Who has read an answer to its end may ask again at once, on another connection too."""
    headers = {"authorization": f"Bearer {place.key(concurrent_requests=1)}"}
    place.client(headers["authorization"].removeprefix("Bearer ")).close()
    with (
        httpx2.Client(base_url=place.server.origin, headers=headers, timeout=60) as one,
        httpx2.Client(base_url=place.server.origin, headers=headers, timeout=60) as other,
    ):
        for model in ("echo", "remote"):
            ask = {"model": model, "messages": HELLO, "stream": stream and model == "echo"}
            for number in range(40):
                http = other if number % 2 else one
                assert http.post("/v1/chat/completions", json=ask).status_code == 200


@pytest.mark.parametrize(("model", "many"), [("echo", 1), ("remote", 4)])
def test_clients_that_leave_give_their_places_back(place: Place, model: str, many: int) -> None:
    key = place.key(concurrent_requests=many)
    with place.client(key) as client:
        for _ in range(4):
            streams = [client.chat.completions.create(model=model, messages=SLOW, stream=True) for _ in range(many)]
            with pytest.raises(openai.RateLimitError):
                client.chat.completions.create(model="echo", messages=HELLO)
            for stream in streams:
                stream.close()
            place.until(key, "concurrent_requests", 0)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/videos"])
def test_bodies_that_are_still_to_come_have_places_too(place: Place, path: str) -> None:
    """Else a key for two requests at once could take all of ``server.max_in_flight`` with slow uploads."""
    key = place.key(concurrent_requests=2)
    place.client(key).close()
    url = httpx2.URL(place.server.origin)
    fields = f"Host: {url.host}\r\nx-api-key: {key}\r\ncontent-type: application/json\r\ncontent-length: 100"
    with ExitStack() as slow:
        uploads = [slow.enter_context(socket.create_connection((url.host, url.port), timeout=PATIENCE)) for _ in range(3)]
        for number, upload in enumerate(uploads):
            upload.sendall(f"POST {path} HTTP/1.1\r\n{fields}\r\n\r\n{{".encode())
            place.until(key, "concurrent_requests", min(number + 1, 2))
        assert b" 429 " in uploads[2].recv(1000)
    place.until(key, "concurrent_requests", 0)


def test_two_that_are_asked_for_one_answer_hold_one_place(place: Place) -> None:
    key = place.key(concurrent_requests=1)
    words: Any = [{"role": "user", "content": "[[first_delay=0.5]] late"}]
    with place.client(key) as client:
        client.chat.completions.create(model="echo", messages=HELLO)  # it is loaded now
        for _ in range(5):
            assert client.chat.completions.create(model="both", messages=words).choices[0].message.content == "far"
        place.until(key, "concurrent_requests", 0)


def test_a_worker_that_is_killed_gives_its_requests_place_back(place: Place) -> None:
    key = place.key(concurrent_requests=1)
    with place.client(key) as client:
        stream = client.chat.completions.create(model="echo", messages=SLOW, stream=True)
        next(iter(stream))
        place.until(key, "concurrent_requests", 1)
        for process in psutil.Process(place.server.process.pid).children(recursive=True):
            os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(openai.APIError):
            list(stream)
        place.until(key, "concurrent_requests", 0)
        client.with_options(max_retries=10).chat.completions.create(model="echo", messages=HELLO)


def test_videos_that_wait_take_no_more_than_the_budget_has(place: Place) -> None:
    key = place.key(budget=2.0)
    place.client(key).close()
    ask = {"model": "echo", "prompt": "sea", "size": "64x48"}
    with httpx2.Client(base_url=place.server.base_url, headers={"authorization": f"Bearer {key}"}) as http:
        ordered = [http.post("/videos", json=ask).json()["id"] for _ in range(4)]
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            ended = [http.get(f"/videos/{id}").json() for id in ordered]
            if all(video["status"] in ("completed", "failed") for video in ended):
                break
            time.sleep(0.05)
    assert [video["status"] for video in ended] == ["completed", "completed", "failed", "failed"]
    assert [video["error"]["code"] for video in ended if video["error"]] == ["insufficient_quota"] * 2
    place.until(key, "budget", 2.0)


def test_limits_change_while_a_key_is_used(place: Place) -> None:
    key = place.key(requests_per_minute=1)
    with place.client(key) as client:
        client.chat.completions.create(model="echo", messages=HELLO)
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="echo", messages=HELLO)
        place.change(key, requests_per_minute=3)
        deadline = time.monotonic() + PATIENCE
        while place.limits(key)["requests_per_minute"]["limit"] != 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        for _ in range(2):
            client.chat.completions.create(model="echo", messages=HELLO)
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="echo", messages=HELLO)


def test_a_budget_is_never_more_than_it_says_over_restarts_too(start_server: Callable[..., Any], tmp_path: Path) -> None:
    place = Place(start_server, tmp_path)
    key = place.key(budget=3.0, tokens_per_day=1000)
    other = place.key()
    with place.client(key) as client:
        for _ in range(2):
            client.chat.completions.create(model="echo", messages=HELLO, max_tokens=10)
        place.until(key, "budget", 2.0)
        used = place.limits(key)["tokens_per_day"]["used"]
    assert place.server.stop() == 0
    assert place.spent(key) == 2.0
    place.server = start_server(place.config)
    assert place.limits(key) == {
        "tokens_per_day": {"limit": 1000, "used": used, "remaining": 1000 - used},
        "budget": {"limit": 3.0, "used": 2.0, "remaining": 1.0},
    }
    with place.client(key) as client:
        client.chat.completions.create(model="echo", messages=HELLO, max_tokens=10)
        with pytest.raises(openai.RateLimitError) as caught:
            client.with_options(max_retries=3).chat.completions.create(model="echo", messages=HELLO, max_tokens=10)
        assert (caught.value.code, caught.value.response.headers["x-should-retry"]) == ("insufficient_quota", "false")
        assert "retry-after" not in caught.value.response.headers
    with place.client(other) as client:
        client.chat.completions.create(model="echo", messages=HELLO)
