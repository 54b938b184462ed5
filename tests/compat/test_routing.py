"""Routes through the installed server: upstreams that die, refuse, are slow, and what the clients see of it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import httpx2
import openai
import pytest
from aiohttp import web

SAID: Any = [{"role": "user", "content": "one two three"}]
LONG = 60.0
CLIENTS, EACH = 20, 20
CONFIG = """
[server]
inline = true

[models.echo]
source = "@NOTHING@"
kind = "echo"

[routes.rescued]
targets = ["dead-model", "echo"]

[routes.streamed]
targets = ["lost-model", "echo"]

[routes.spread]
targets = ["doomed-model", "lasting-model"]
policy = "round_robin"

[routes.long]
targets = ["small-model", "red-model"]
larger_context = "large-model"

[routes.sessions]
targets = ["red-model", "green-model", "blue-model"]
sticky = "session"

[routes.prompts]
targets = ["red-model", "green-model", "blue-model"]
sticky = "prefix"

[routes.hasty]
targets = ["slow-model", "quick-model"]
hedge_after = 0.2
"""
DEAD = ("dead", "lost", "gone")  # from the beginning
UPSTREAMS = (*DEAD, "doomed", "lasting", "limited", "small", "large", "red", "green", "blue", "slow", "quick")

Act = Callable[[web.Request, dict[str, Any]], Any]


def whole(name: str) -> web.Response:
    choice = {"index": 0, "message": {"role": "assistant", "content": name}, "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    return web.json_response(
        {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    )


def piece(text: str | None, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
    event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def refusal(status: int, code: str, **headers: str) -> web.Response:
    body = {"error": {"message": f"No: {code}.", "type": "invalid_request_error", "param": None, "code": code}}
    return web.json_response(body, status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})


class Upstream:
    """One upstream on a port of its own. It answers with its name; ``acts`` are done first, one a request."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.origin = ""
        self.asked = 0
        self.acts: list[Act] = []
        self.delay = 0.0
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.origin = f"{host}:{port}"
        return f"http://{self.origin}/v1"

    async def die(self) -> None:
        """As a killed process does: nobody listens, and every connection is reset."""
        if self._runner is not None:
            for site in tuple(self._runner.sites):
                await site.stop()
            for connection in self._runner.server.connections if self._runner.server else ():
                if connection.transport is not None:
                    connection.transport.abort()
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        asked = await request.json()
        if self.acts:
            answer: web.StreamResponse = await self.acts.pop(0)(request, asked)
            return answer
        if asked.get("stream"):
            return await self._stream(request)
        await asyncio.sleep(self.delay)
        return whole(self.name)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(20):
            await response.write(piece(self.name + " "))
            await asyncio.sleep(self.delay)
        await response.write(piece(None, "stop") + b"data: [DONE]\n\n")
        return response


class Loop:
    """The upstreams' event loop, in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def upstreams(loop: Loop) -> dict[str, Upstream]:
    return {name: Upstream(name) for name in UPSTREAMS}


@pytest.fixture(scope="module")
def running(upstreams: dict[str, Upstream], loop: Loop, serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The server in front of them."""
    folder = tmp_path_factory.mktemp("routing")
    (folder / "nothing").mkdir()
    text = CONFIG.replace("@NOTHING@", str(folder / "nothing"))
    for name, upstream in upstreams.items():
        url = loop.do(upstream.start())
        text += f'\n[upstreams.{name}]\nbase_url = "{url}"\nmodels = {{ "{name}-model" = {{ name = "m" }} }}\n'
    for name in DEAD:
        loop.do(upstreams[name].die())
    (folder / "config.toml").write_text(text)
    server = serve(folder / "config.toml", folder)
    yield server
    assert server.stop() == 0, server.log.read_text()
    for upstream in upstreams.values():
        loop.do(upstream.die())


@pytest.fixture
def asking(running: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=running.base_url, api_key="none", max_retries=0, timeout=LONG) as client:
        yield client


def answer(client: openai.OpenAI, model: str, **options: Any) -> str:
    done = client.chat.completions.create(model=model, messages=options.pop("messages", SAID), **options)
    return done.choices[0].message.content or ""


def acting(*made: web.Response) -> list[Act]:
    async def act(request: web.Request, asked: dict[str, Any]) -> web.Response:
        return made_of.pop(0)

    made_of = list(made)
    return [act] * len(made)


def metric(running: Any, name: str, upstream: str) -> float:
    line = f'openai_compat_target_{name}{{target="{upstream}-model",upstream="{upstream}"}} '
    return next(
        float(at[len(line) :]) for at in httpx2.get(f"{running.origin}/metrics").text.splitlines() if at.startswith(line)
    )


def test_a_dead_upstream_gives_way_to_the_local_model_and_is_left_alone_after_a_while(
    running: Any, asking: openai.OpenAI, upstreams: dict[str, Upstream]
) -> None:
    assert [answer(asking, "rescued") for _ in range(7)] == ["one two three"] * 7
    assert metric(running, "open", "dead") == 1
    assert metric(running, "fallbacks_total", "dead") == 5
    log = running.log.read_text()
    assert log.count("dead-model came to nothing (not_begun), echo is asked") == 5
    assert upstreams["dead"].origin not in log


def test_a_stream_falls_back_too_before_it_has_begun(asking: openai.OpenAI) -> None:
    events = asking.chat.completions.create(model="streamed", messages=SAID, stream=True)
    assert "".join(event.choices[0].delta.content or "" for event in events) == "one two three"


def test_a_dead_upstream_without_another_is_a_502_and_then_a_503_that_says_when(asking: openai.OpenAI) -> None:
    refusals = [refused(asking, "gone-model") for _ in range(3)]
    assert [(error.status_code, error.code) for error in refusals] == [
        (502, "upstream_error"),
        (502, "upstream_error"),
        (503, "unavailable"),
    ]
    assert 1 <= int(refusals[-1].response.headers["retry-after"]) <= 120
    assert not any("127.0.0.1" in error.message for error in refusals)


def refused(client: openai.OpenAI, model: str) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        answer(client, model)
    return caught.value


def test_a_short_rate_limit_is_waited_for(asking: openai.OpenAI, upstreams: dict[str, Upstream]) -> None:
    limited = upstreams["limited"]
    before = limited.asked
    limited.acts = acting(refusal(429, "rate_limit_exceeded", Retry_After="1"))
    began = time.monotonic()
    assert answer(asking, "limited-model") == "limited"
    assert time.monotonic() - began >= 1
    assert limited.asked == before + 2


def test_a_long_rate_limit_is_the_clients_to_wait_for(asking: openai.OpenAI, upstreams: dict[str, Upstream]) -> None:
    upstreams["limited"].acts = acting(refusal(429, "rate_limit_exceeded", Retry_After="37"))
    with pytest.raises(openai.RateLimitError) as caught:
        answer(asking, "limited-model")
    assert caught.value.response.headers["retry-after"] == "37"
    assert caught.value.code == "rate_limit_exceeded"


def test_what_is_too_long_goes_to_the_larger_model(asking: openai.OpenAI, upstreams: dict[str, Upstream]) -> None:
    upstreams["small"].acts = acting(refusal(400, "context_length_exceeded"))
    before = upstreams["red"].asked
    assert answer(asking, "long") == "large"
    assert upstreams["red"].asked == before


def test_what_is_too_long_for_both_is_a_400(asking: openai.OpenAI, upstreams: dict[str, Upstream]) -> None:
    for name in ("small", "large"):
        upstreams[name].acts = acting(refusal(400, "context_length_exceeded"))
    with pytest.raises(openai.BadRequestError) as caught:
        answer(asking, "long")
    assert caught.value.code == "context_length_exceeded"


def test_any_other_400_is_the_answer(asking: openai.OpenAI, upstreams: dict[str, Upstream]) -> None:
    upstreams["small"].acts = acting(refusal(400, "invalid_value"))
    before = upstreams["red"].asked + upstreams["large"].asked
    with pytest.raises(openai.BadRequestError, match="invalid_value"):
        answer(asking, "long")
    assert upstreams["red"].asked + upstreams["large"].asked == before


@pytest.mark.parametrize("header", ["x-session-id", "session_id"])
def test_a_session_stays_where_it_is(asking: openai.OpenAI, header: str) -> None:
    turns = [[answer(asking, "sessions", extra_headers={header: f"s{n}"}) for _ in range(3)] for n in range(12)]
    assert all(len(set(turn)) == 1 for turn in turns)
    assert {turn[0] for turn in turns} == {"red", "green", "blue"}


def test_a_conversation_stays_where_its_beginning_is_known(asking: openai.OpenAI) -> None:
    where = []
    for number in range(12):
        opening: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Question {number}"}]
        later = [*opening, {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Why?"}]
        where.append({answer(asking, "prompts", messages=messages) for messages in (opening, later)})
    assert all(len(names) == 1 for names in where)
    assert set.union(*where) == {"red", "green", "blue"}


def test_a_slow_target_is_overtaken_and_let_go(running: Any, asking: openai.OpenAI, upstreams: dict[str, Upstream]) -> None:
    left = threading.Event()

    async def hang(request: web.Request, asked: dict[str, Any]) -> None:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            left.set()
            raise

    upstreams["slow"].acts = [hang]
    began = time.monotonic()
    assert answer(asking, "hasty") == "quick"
    assert time.monotonic() - began < LONG / 4
    assert left.wait(5)
    assert metric(running, "hedges_total", "quick") == 1
    assert metric(running, "in_flight", "slow") == 0


def test_killing_one_of_two_targets_under_load_loses_nothing_that_had_not_begun(
    running: Any, upstreams: dict[str, Upstream], loop: Loop
) -> None:
    doomed, lasting = upstreams["doomed"], upstreams["lasting"]
    doomed.delay = lasting.delay = 0.02
    seen = asyncio.run(load(running.base_url, lambda: loop.do(doomed.die())))
    outcomes = Counter(seen)
    assert outcomes.total() == CLIENTS * EACH
    assert {"whole doomed", "stream doomed"} <= set(outcomes), "it was in use before it died"
    broken = outcomes.pop("stream broken upstream_error", 0)
    assert broken > 0, "streams that had begun there end with an error event"
    assert set(outcomes) <= {f"{kind} {name}" for kind in ("whole", "stream") for name in ("doomed", "lasting")}
    assert metric(running, "open", "doomed") == 1


async def load(base_url: str, kill: Callable[[], None]) -> list[str]:
    """What each of many requests came to; half of them are streams. A third of the way the one target is killed."""
    outcomes: list[str] = []
    timeout = aiohttp.ClientTimeout(total=LONG)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def client(number: int) -> None:
            for turn in range(EACH):
                outcomes.append(await outcome(session, base_url, stream=(number + turn // 2) % 2 == 0))

        async def killer() -> None:
            while len(outcomes) < CLIENTS * EACH // 3:
                await asyncio.sleep(0.005)
            await asyncio.to_thread(kill)

        await asyncio.gather(killer(), *(client(number) for number in range(CLIENTS)))
    return outcomes


async def outcome(session: aiohttp.ClientSession, base_url: str, *, stream: bool) -> str:
    body = {"model": "spread", "messages": SAID, "stream": stream}
    async with session.post(f"{base_url}/chat/completions", json=body) as response:
        text = await response.text()
    if response.status != 200:
        return f"{response.status} {text}"
    if not stream:
        return "whole " + json.loads(text)["choices"][0]["message"]["content"]
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    if "error" in events[-1]:
        return "stream broken " + events[-1]["error"]["code"]
    words = "".join(event["choices"][0]["delta"].get("content", "") for event in events).split()
    complete = len(words) == 20 and len(set(words)) == 1 and text.endswith("data: [DONE]\n\n")
    return f"stream {words[0]}" if complete else f"stream incomplete: {text}"
