"""A configuration that changes under load: no request is lost, no stream is cut, and a bad one changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import pytest

from openai_compat.auth import hash_key
from tests.compat.provider import Upstream

STEPS = 20
REQUESTS = 1000
STREAMS = 8
KEY = "one"
BEARER = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


class Reloadable:
    """A server whose configuration the test writes."""

    def __init__(self, serve: Callable[..., Any], folder: Path, upstream: Upstream) -> None:
        self._upstream = upstream
        self._config = folder / "config.toml"
        self._socket = folder / "admin.sock"
        folder.chmod(0o700)
        self.write()
        self.server = serve(self._config, folder, env={"OPENAI_COMPAT_CACHE_DIR": str(folder / "cache")})

    def write(
        self, more: str = "", *, upstream: str = "", server: str = "", always: str = "", keys: tuple[str, ...] = (KEY,)
    ) -> None:
        """Beside the old file, and then in its place: nobody reads half of it."""
        beside = self._config.with_suffix(".new")
        hashes = json.dumps([hash_key(key) for key in keys])
        beside.write_text(
            f'[admin]\nlisten = "unix:{self._socket}"\n[workers]\nfork_server = false\n[server]\n{server}\n'
            f"[auth]\nkeys = {hashes}\n[upstreams.mock]\n{upstream}\n"
            f'base_url = "http://127.0.0.1:{self._upstream.port}/v1"\nmodels = {{ m = {{}}, n = {{}} }}\n'
            f'[routes.r]\ntargets = ["m", "n"]\n[models.always]\nkind = "echo"\n{always}\n{more}'
        )
        beside.replace(self._config)

    def operator(self) -> httpx2.Client:
        return httpx2.Client(transport=httpx2.HTTPTransport(uds=str(self._socket)), base_url="http://localhost", timeout=30)

    def reload(self) -> httpx2.Response:
        with self.operator() as operator:
            return operator.post("/admin/reload")

    def take(self, more: str = "", **settings: Any) -> tuple[str, ...]:
        """The settings that changed."""
        self.write(more, **settings)
        answer = self.reload()
        assert answer.status_code == 200, answer.text
        return tuple(answer.json()["changed"])

    def ask(self, model: str, text: str = "x", key: str = KEY) -> httpx2.Response:
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        headers = {"authorization": f"Bearer {key}"}
        return httpx2.post(f"{self.server.base_url}/chat/completions", json=body, headers=headers, timeout=60)

    def hang_up(self) -> None:
        """SIGHUP; returns when the log says what came of it."""
        before = self.told()
        os.kill(self.server.process.pid, signal.SIGHUP)
        deadline = time.monotonic() + 30
        while self.told() == before and time.monotonic() < deadline:
            time.sleep(0.01)

    def told(self) -> int:
        return self.server.log.read_text().count("the configuration was ")


@pytest.fixture(scope="module")
def running(serve: Any, tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Reloadable]:
    found = Reloadable(serve, tmp_path_factory.mktemp("reload"), upstream)
    yield found
    assert found.server.stop() == 0


@pytest.fixture
def reloadable(running: Reloadable) -> Reloadable:
    """With the configuration that all tests begin with."""
    running.take()
    return running


def configurations() -> Iterator[dict[str, Any]]:
    """Each differs from the one before, in another place every time."""
    for number in range(STEPS):
        yield [
            {"more": '[models.added]\nkind = "echo"\n'},
            {"upstream": f"retries = {number % 5}"},
            {"always": f"context_length = {1000 + number}", "server": f'max_body = "{number + 1}MiB"'},
            {"more": '[aliases]\nother = "m"\n[cache]\nsize = "1MiB"\n', "upstream": f"idle_timeout = {60 + number}.0"},
            {"server": f"request_timeout = {100 + number}.0", "more": f"[metering]\nrequests_per_minute = {10**6 + number}\n"},
        ][number % 5]


async def question(session: aiohttp.ClientSession, url: str, model: str) -> str:
    """How a request ended, in a word."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    try:
        async with session.post(url, json=body, headers=BEARER) as answer:
            found = await answer.json()
            return "good" if answer.status == 200 and found["choices"][0]["message"]["content"] == "Hi" else str(found)
    except (aiohttp.ClientError, ConnectionError, ValueError) as error:
        return repr(error)


async def stream(session: aiohttp.ClientSession, url: str) -> list[str]:
    """The texts of its pieces, and [DONE]."""
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    async with session.post(url, json=body, headers=BEARER) as answer:
        lines = [line.decode().strip().removeprefix("data: ") async for line in answer.content if line.startswith(b"data:")]
    return [line if line == "[DONE]" else json.loads(line)["choices"][0]["delta"]["content"] for line in lines]


@contextlib.asynccontextmanager
async def asking(session: aiohttp.ClientSession, url: str, seen: list[str], done: asyncio.Event) -> AsyncIterator[None]:
    async def ask(number: int) -> None:
        while not done.is_set() or len(seen) < REQUESTS:
            seen.append(await question(session, url, ("m", "n", "r", "always")[(number + len(seen)) % 4]))

    askers = [asyncio.create_task(ask(number)) for number in range(6)]
    yield
    done.set()
    await asyncio.gather(*askers)


def test_twenty_changes_under_load_lose_no_request_and_cut_no_stream(reloadable: Reloadable, upstream: Upstream) -> None:
    url = f"{reloadable.server.base_url}/chat/completions"
    before = reloadable.told()
    assert reloadable.ask("always").status_code == 200

    async def scenario() -> tuple[list[str], list[list[str]]]:
        seen: list[str] = []
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            streams = [asyncio.create_task(stream(session, url)) for _ in range(STREAMS)]
            async with asking(session, url, seen, asyncio.Event()):
                for number, configuration in enumerate(configurations()):
                    while len(seen) < number * REQUESTS / STEPS:
                        await asyncio.sleep(0.01)
                    assert await asyncio.to_thread(lambda wanted=configuration: reloadable.take(**wanted))
            upstream.enough.set()
            return seen, await asyncio.gather(*streams)

    seen, streams = asyncio.run(scenario())
    assert len(seen) >= REQUESTS
    assert [word for word in seen if word != "good"] == []
    for texts in streams:
        assert texts == [*map(str, range(len(texts) - 2)), "end", "[DONE]"]
    assert reloadable.told() == before + STEPS


def test_a_bad_file_changes_nothing_and_is_told_in_one_line(reloadable: Reloadable) -> None:
    for more, words in (
        ("nonsense", "config.toml"),
        ('[models.broken]\nkind = "echo"\ndevice = "gpu"\n', "there is no device 'gpu'"),
        ('[routes.lost]\ntargets = ["nobody"]\n', "nobody"),
        ('[upstreams.other]\nbase_url = "https://h/v1"\nca_file = "/nowhere.pem"\n', "/nowhere.pem"),
        ('[jobs]\ntimeout = 9.0\n[storage]\ndir = "x"\n', "jobs.timeout, storage.dir take a restart to change"),
    ):
        reloadable.write(more)
        answer = reloadable.reload()
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["code"] == "configuration_refused"
        assert words in error["message"]
        assert "\n" not in error["message"]
        assert reloadable.ask("always").status_code == 200
        assert reloadable.ask("broken").json()["error"]["code"] == "model_not_found"
        before = reloadable.told()
        reloadable.hang_up()
        assert reloadable.told() == before + 1
        assert words in reloadable.server.log.read_text().splitlines()[-1]


def test_a_model_comes_and_goes(reloadable: Reloadable) -> None:
    assert reloadable.ask("added").status_code == 404
    assert reloadable.take('[models.added]\nkind = "echo"\n') == ("models.added",)
    assert reloadable.ask("added", "you").json()["choices"][0]["message"]["content"] == "you"
    assert reloadable.take() == ("models.added",)
    assert reloadable.ask("added").json()["error"]["code"] == "model_not_found"
    listed = httpx2.get(f"{reloadable.server.base_url}/models", headers=BEARER).json()["data"]
    assert "added" not in [model["id"] for model in listed]


def test_operators_see_the_models_and_end_idle_ones(reloadable: Reloadable) -> None:
    with reloadable.operator() as operator:
        assert reloadable.ask("always").status_code == 200
        models = {model["id"]: model["state"] for model in operator.get("/admin/models").json()["data"]}
        assert models["always"] == "ready"
        # The worker says a moment after the last byte that it is done.
        while (ended := operator.post("/admin/models/unload", params={"model": "always"})).status_code == 409:
            time.sleep(0.02)
        assert (ended.status_code, ended.json()["state"]) == (200, "unloading")
        assert operator.post("/admin/models/unload", params={"model": "nobody"}).status_code == 404
        assert operator.post("/admin/models/unload").json()["error"]["param"] == "model"
    assert reloadable.ask("always").status_code == 200


def test_keys_and_limits_change_for_the_next_request(reloadable: Reloadable) -> None:
    assert [reloadable.ask("m", key=key).status_code for key in (KEY, "two")] == [200, 401]
    assert reloadable.take(keys=("two",)) == ("auth.keys",)
    assert [reloadable.ask("m", key=key).status_code for key in (KEY, "two")] == [401, 200]
    reloadable.take("[metering]\nrequests_per_minute = 1\n")
    assert 429 in [reloadable.ask("m").status_code for _ in range(3)]
    reloadable.take()
    assert reloadable.ask("m").status_code == 200


def test_signals_one_after_the_other_and_beside_a_load_are_taken_in_turn(reloadable: Reloadable) -> None:
    reloadable.write('[models.added]\nkind = "echo"\npreload = true\n')
    with contextlib.suppress(ProcessLookupError):
        for _ in range(50):
            os.kill(reloadable.server.process.pid, signal.SIGHUP)
    assert reloadable.reload().status_code == 200
    assert reloadable.ask("added").status_code == 200
    assert reloadable.server.process.poll() is None
    assert "Traceback" not in reloadable.server.log.read_text()
