import asyncio

import pytest
from litestar import Litestar, Request, post

from openai_compat.errors import Cancelled, InvalidRequest
from openai_compat.http.disconnect import answer, attended
from openai_compat.http.errors import exception_handlers


class Work:
    """A job by hand."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def result(self) -> str:
        self.begun.set()
        return await asyncio.shield(self.outcome)

    def cancel(self) -> None:
        self.cancelled.set()


def app_of(work, errors: list[BaseException]) -> Litestar:
    @post("/", status_code=200)
    async def whole(request: Request) -> str:
        try:
            return (await request.body()).decode() + await answer(request, work())
        except BaseException as error:
            errors.append(error)
            raise

    return Litestar([whole], exception_handlers=exception_handlers, openapi_config=None, logging_config=None)


def test_a_client_that_stays_gets_the_result_on_a_connection_that_lives_on(live, in_time):
    async def scenario():
        work = Work()
        work.outcome.set_result("!")
        async with live(app_of(lambda: work, [])) as server:
            wire = await server.connect()
            for text in (b"one", b"two", b"three"):
                wire.send("POST", "/", text)
                status, headers = await wire.head()
                assert status == 200
                assert await wire.body(headers) == text + b"!"
            assert not work.cancelled.is_set()

    in_time(scenario())


def test_requests_sent_ahead_on_one_connection_are_answered_in_order(live, in_time):
    async def scenario():
        works: list[Work] = []

        def begin() -> Work:
            works.append(Work())
            return works[-1]

        async with live(app_of(begin, [])) as server:
            wire = await server.connect()
            wire.send("POST", "/", b"one")
            wire.send("POST", "/", b"two")
            for number, text in enumerate((b"one", b"two")):
                while len(works) <= number:
                    await asyncio.sleep(0.005)
                await asyncio.sleep(0.02)
                works[number].outcome.set_result(str(number))
                _, headers = await wire.head()
                assert await wire.body(headers) == text + str(number).encode()
            assert not any(work.cancelled.is_set() for work in works)

    in_time(scenario())


def test_a_client_that_leaves_cancels_the_job(live, in_time):
    async def scenario():
        work, errors = Work(), []
        async with live(app_of(lambda: work, errors)) as server:
            wire = await server.connect()
            wire.send("POST", "/", b"x" * 200_000)
            await work.begun.wait()
            wire.leave()
            await work.cancelled.wait()
        assert isinstance(errors[0], Cancelled)

    in_time(scenario())


def test_a_failed_job_raises_its_own_error(live, in_time):
    async def scenario():
        work, errors = Work(), []
        work.outcome.set_exception(InvalidRequest("no"))
        async with live(app_of(lambda: work, errors)) as server:
            wire = await server.connect()
            wire.send("POST", "/", b"")
            status, headers = await wire.head()
            await wire.body(headers)
            assert status == 400
        assert not work.cancelled.is_set()

    in_time(scenario())


def test_a_server_that_gives_up_the_request_cancels_the_job(in_time):
    async def scenario():
        work = Work()

        class Silent:
            async def receive(self):
                await asyncio.Event().wait()

        waiting = asyncio.ensure_future(answer(Silent(), work))
        await work.begun.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert work.cancelled.is_set()

    in_time(scenario())


@pytest.mark.parametrize("end", ["stay", "fail", "leave"])
def test_work_is_attended_as_long_as_the_client_is_there(live, in_time, end):
    async def scenario():
        begun, over, errors = asyncio.Event(), asyncio.Event(), []

        async def fetch() -> str:
            begun.set()
            try:
                if end == "leave":
                    await asyncio.Event().wait()
                if end == "fail":
                    raise InvalidRequest("no")
                return "!"
            finally:
                over.set()

        @post("/", status_code=200)
        async def whole(request: Request) -> str:
            try:
                return (await request.body()).decode() + await attended(request, fetch())
            except BaseException as error:
                errors.append(error)
                assert over.is_set()
                raise

        app = Litestar([whole], exception_handlers=exception_handlers, openapi_config=None, logging_config=None)
        async with live(app) as server:
            wire = await server.connect()
            wire.send("POST", "/", b"one")
            await begun.wait()
            if end == "leave":
                wire.leave()
                while not errors:
                    await asyncio.sleep(0.01)
                assert isinstance(errors[0], Cancelled)
                return
            status, headers = await wire.head()
            body = await wire.body(headers)
            assert (status, body == b"one!") == ((200, True) if end == "stay" else (400, False))

    in_time(scenario())
