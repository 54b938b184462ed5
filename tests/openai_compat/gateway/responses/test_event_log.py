"""Events that are kept for whoever comes to read them: in order, without gaps, and no more than there is room for."""

from __future__ import annotations

import asyncio

import pytest

from openai_compat.errors import APIError, InvalidRequest
from openai_compat.gateway.responses.event_log import EventLog


async def all_of(log: EventLog, after: int = -1) -> bytes:
    return b"".join([piece async for piece in log.read(after)])


def test_every_reader_gets_everything_from_where_he_wants(in_time) -> None:
    async def scenario() -> list[bytes]:
        log = EventLog()
        readers = [asyncio.create_task(all_of(log, after)) for after in (-1, 0, 3, 99)]
        for number in range(5):
            log.put([b"%d" % number])
            await asyncio.sleep(0)
        log.close()
        return [*await asyncio.gather(*readers), await all_of(log, 2)]

    assert in_time(scenario()) == [b"01234", b"1234", b"4", b"", b"34"]


def test_the_oldest_go_first_and_who_wants_them_is_told(in_time) -> None:
    async def scenario() -> None:
        log = EventLog(longest=100)
        slow = log.read(-1)
        log.put([b"0123456789"])
        await anext(slow)
        for _ in range(50):
            log.put([b"0123456789"])
        assert (log.size <= 100, log.next) == (True, 51)
        with pytest.raises(InvalidRequest) as caught:
            log.check(-1)
        assert caught.value.param == "starting_after"
        with pytest.raises(APIError):
            await anext(slow)
        log.check(log.next - 5)
        log.close()
        assert len(await all_of(log, log.next - 5)) == 40
        log.put([b"x" * 1000])
        assert await all_of(log, log.next - 2) == b"x" * 1000, "the newest stays, however large"

    in_time(scenario())
