"""Every way in which an answer is given up, over real HTTP: each must free the model's thread within a step."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from litestar import Litestar, Request, Response, post

from handlers.types import TextRequest
from openai_compat.http.disconnect import answer
from openai_compat.http.errors import exception_handlers
from openai_compat.http.sse import StreamTiming, sse
from openai_compat.protocol import Done, RelayFacts
from openai_compat.worker.status import Ledger
from openai_compat.worker.track import Track


def app_of(runner) -> Litestar:
    def submit(facts: RelayFacts, prompt: bytes):
        request = TextRequest(prompts=(prompt.decode(),))
        return runner.submit("generate_text", request, request_id=facts.request_id, deadline=facts.deadline)

    @post("/whole", status_code=200)
    async def whole(request: Request) -> Response:
        facts = RelayFacts.from_headers(request.headers)
        result = await answer(request, submit(facts, await request.body()))
        return Response({"text": result.choices[0].text})

    @post("/stream", status_code=200)
    async def stream(request: Request) -> Response:
        facts, prompt = RelayFacts.from_headers(request.headers), await request.body()

        async def events():
            async for batch in submit(facts, prompt).batches():
                yield "".join(f"data: {delta.text}\n\n" for delta in batch).encode()
            yield b"data: [DONE]\n\n"

        return await sse(events(), timing=StreamTiming(first_byte_timeout=60, ping_interval=60))

    return Litestar([whole, stream], exception_handlers=exception_handlers, openapi_config=None, logging_config=None)


class Site:
    """A worker's web app on a real server, with the handler and the ledger in the test's hands."""

    def __init__(self, bench, server, sent) -> None:
        self.bench = bench
        self.server = server
        self.sent = sent

    async def ask(self, path: str, prompt: str, *, request_id: str | None = None, deadline: float = 60.0):
        wire = await self.server.connect()
        facts = RelayFacts(request_id=request_id or prompt, model="m", public_model="m", deadline=deadline)
        wire.send("POST", path, prompt.encode(), facts.to_headers())
        return wire


@pytest.fixture
def site(bench, live):
    @asynccontextmanager
    async def site():
        async with bench() as b:
            sent = []
            ledger = Ledger(sent.append)
            b.runner.on_done = ledger.settle
            ledger.active = lambda: b.runner.active
            async with live(Track(app_of(b.runner), ledger, b.runner.admit)) as server:
                yield Site(b, server, sent)

    return site


async def answered(wire) -> tuple[int, dict]:
    status, headers = await wire.head()
    return status, json.loads(await wire.body(headers))


def test_a_stream_that_is_dropped(site, run, until):
    async def scenario():
        async with site() as s:
            wire = await s.ask("/stream", "first hold never")
            await wire.head()
            assert await wire.chunk() == b"data: first \n\n"
            assert s.sent == []
            wire.leave()
            await until(lambda: s.sent == [Done("first hold never")])
            assert s.bench.runner.active == ()
            assert await answered(await s.ask("/whole", "next")) == (200, {"text": "next"})

    run(scenario())


def test_a_stream_that_is_dropped_before_its_first_event(site, run, until):
    async def scenario():
        async with site() as s:
            wire = await s.ask("/stream", "hold")
            await until(s.bench.handler.entered.is_set)
            wire.leave()
            await until(lambda: s.sent == [Done("hold")])

    run(scenario())


def test_a_whole_answer_whose_client_leaves(site, run, until):
    async def scenario():
        async with site() as s:
            wire = await s.ask("/whole", "hold")
            await until(s.bench.handler.entered.is_set)
            wire.leave()
            await until(lambda: s.sent == [Done("hold")])
            assert await answered(await s.ask("/whole", "next")) == (200, {"text": "next"})

    run(scenario())


@pytest.mark.parametrize("path", ["/whole", "/stream"])
def test_a_queued_request_whose_client_leaves_never_runs(site, run, until, path):
    async def scenario():
        async with site() as s:
            first = await s.ask("/whole", "hold")
            await until(s.bench.handler.entered.is_set)
            second = await s.ask(path, "second")
            await until(lambda: s.bench.runner.active == ("hold", "second"))
            second.leave()
            await until(lambda: s.sent == [Done("second")])
            s.bench.handler.gate.set()
            assert (await answered(first))[0] == 200
            assert s.bench.handler.seen == ["hold"]

    run(scenario())


def test_a_deadline_of_a_whole_answer_is_a_504(site, run, until):
    async def scenario():
        async with site() as s:
            status, body = await answered(await s.ask("/whole", "hold", deadline=0.05))
            assert status == 504
            assert body["error"]["code"] == "deadline_exceeded"
            await until(lambda: s.sent == [Done("hold")])

    run(scenario())


def test_a_deadline_of_a_stream_is_a_504_before_and_an_event_after_its_first_event(site, run, until):
    async def scenario():
        async with site() as s:
            status, _ = await answered(await s.ask("/stream", "hold", deadline=0.05))
            assert status == 504
            wire = await s.ask("/stream", "first hold", deadline=0.2)
            await wire.head()
            first, last = await wire.chunks()
            assert first == b"data: first \n\n"
            assert b"deadline_exceeded" in last
            await until(lambda: s.sent == [Done("hold"), Done("first hold")])

    run(scenario())


def test_shutdown_cancels_what_outlasts_the_grace(site, run, until):
    async def scenario():
        async with site() as s:
            stream = await s.ask("/stream", "first hold")
            await stream.head()
            await stream.chunk()
            queued = await s.ask("/whole", "queued")
            await until(lambda: "queued" in s.bench.runner.active)
            await s.bench.runner.close(0.05)
            assert b"shutting_down" in (await stream.chunks())[-1]
            assert (await answered(queued))[0] == 503
            assert (await answered(await s.ask("/whole", "late")))[0] == 503
            await until(lambda: {message.request_id for message in s.sent} == {"first hold", "queued", "late"})
            assert len(s.sent) == 3

    run(scenario())


def test_a_request_is_not_done_while_its_verb_does_not_look(site, run, until):
    async def scenario():
        async with site() as s:
            wire = await s.ask("/whole", "stuck")
            await until(s.bench.handler.entered.is_set)
            wire.leave()
            await asyncio.sleep(0.1)
            assert s.sent == []
            s.bench.handler.gate.set()
            await until(lambda: s.sent == [Done("stuck")])

    run(scenario())


def test_two_requests_of_one_id_are_done_twice_and_do_not_disturb_each_other(site, run, until):
    async def scenario():
        async with site() as s:
            one = await s.ask("/whole", "hold", request_id="same")
            await until(s.bench.handler.entered.is_set)
            two = await s.ask("/whole", "two", request_id="same")
            await until(lambda: len(s.bench.runner._jobs) == 2)
            two.leave()
            await until(lambda: len(s.bench.runner._jobs) == 1)
            s.bench.handler.gate.set()
            assert (await answered(one))[0] == 200
            await until(lambda: s.sent == [Done("same"), Done("same")])

    run(scenario())


def test_32_streams_at_once_are_complete_not_mixed_and_each_done_once(site, run, until):
    async def one(s, number: int) -> bytes:
        wire = await s.ask("/stream", " ".join(f"{number}.{step}" for step in range(20)), request_id=str(number))
        assert (await wire.head())[0] == 200
        return b"".join(await wire.chunks())

    async def scenario():
        async with site() as s:
            seen = await asyncio.gather(*(one(s, number) for number in range(32)))
            for number, text in enumerate(seen):
                words = "".join(f"data: {number}.{step} \n\n" for step in range(20))
                assert text == f"{words}data: [DONE]\n\n".encode()
            await until(lambda: len(s.sent) == 32)
            assert {message.request_id for message in s.sent} == set(map(str, range(32)))

    run(scenario())


def test_a_slow_reader_holds_neither_the_model_nor_the_others(site, run, until):
    async def scenario():
        async with site() as s:
            slow = await s.ask("/stream", "x" * 60_000 + " " + " ".join(["y" * 1000] * 3000))
            await slow.head()
            await until(lambda: s.bench.runner.active == ())
            assert await answered(await s.ask("/whole", "next")) == (200, {"text": "next"})
            assert (await slow.chunks())[-1] == b"data: [DONE]\n\n"

    run(scenario())
