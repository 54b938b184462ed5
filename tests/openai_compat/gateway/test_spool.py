"""Where uploads wait: small ones in memory, large ones in files without a name, never more than the quota, always removed."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import tempfile

import pytest

from openai_compat.errors import Unavailable
from openai_compat.gateway.spool import IN_MEMORY, Spool, Spooled

PIECE = 64 << 10


async def filled(spool: Spool, size: int) -> tuple[Spooled, bytes]:
    spooled, data = Spooled(spool), os.urandom(size)
    for start in range(0, size, PIECE):
        await spooled.write(data[start : start + PIECE])
    return spooled, data


async def read(spooled: Spooled) -> bytes:
    return b"".join([piece async for piece in spooled.pieces()])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def handles():
    """How many file handles this process holds beyond those it held before."""
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    return lambda: len(os.listdir("/proc/self/fd")) - before


@pytest.mark.parametrize("size", [0, 1, IN_MEMORY - 1, IN_MEMORY, IN_MEMORY + 1, 5 * IN_MEMORY + 7])
def test_what_was_written_is_read_as_often_as_it_takes(folder, size) -> None:
    async def scenario() -> None:
        spool = Spool(10 * IN_MEMORY)
        spooled, data = await filled(spool, size)
        assert spooled.size == size
        assert await asyncio.gather(read(spooled), read(spooled)) == [data, data]
        assert await read(spooled) == data
        spooled.close()
        assert spool.used == 0

    asyncio.run(scenario())


def test_a_small_upload_needs_no_file_and_no_quota(folder, monkeypatch) -> None:
    async def scenario() -> None:
        spooled, data = await filled(Spool(0), IN_MEMORY - PIECE)
        assert await read(spooled) == data

    monkeypatch.setattr(tempfile, "TemporaryFile", None)
    asyncio.run(scenario())


def test_a_large_upload_has_no_name_and_leaves_with_its_request(folder, handles) -> None:
    async def scenario() -> None:
        spool = Spool(10 * IN_MEMORY)
        spooled, _ = await filled(spool, 3 * IN_MEMORY)
        assert list(folder.iterdir()) == []
        assert spool.used == 3 * IN_MEMORY
        spooled.close()
        spooled.close()
        assert spool.used == 0

    before = handles()
    asyncio.run(scenario())
    assert handles() == before


def test_beyond_the_quota_there_is_a_refusal_and_room_again_later(folder) -> None:
    async def scenario() -> None:
        spool = Spool(4 * IN_MEMORY)
        first, _ = await filled(spool, 3 * IN_MEMORY)
        second = Spooled(spool)
        await second.write(bytes(IN_MEMORY))
        with pytest.raises(Unavailable) as caught:
            await second.write(bytes(IN_MEMORY))
        assert caught.value.retry_after
        second.close()
        assert spool.used == 3 * IN_MEMORY
        first.close()
        third, data = await filled(spool, 4 * IN_MEMORY)
        assert await read(third) == data
        third.close()
        assert spool.used == 0

    asyncio.run(scenario())


def test_a_full_disk_is_a_refusal_too(folder, monkeypatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no room")

    async def scenario() -> None:
        spool = Spool(10 * IN_MEMORY)
        spooled = Spooled(spool)
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(Unavailable):
            await spooled.write(bytes(IN_MEMORY))
        monkeypatch.undo()
        spooled.close()
        assert spool.used == 0

    asyncio.run(scenario())


def test_a_request_that_ends_while_its_upload_is_written_leaves_nothing(folder, handles) -> None:
    async def scenario() -> None:
        spool = Spool(100 * IN_MEMORY)
        spooled = Spooled(spool)
        writing = asyncio.ensure_future(spooled.write(bytes(50 * IN_MEMORY)))
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.wait([writing])
        spooled.close()
        assert spool.used == 0

    before = handles()
    asyncio.run(scenario())
    gc.collect()
    assert handles() == before


def test_a_reader_may_outlive_its_request(folder) -> None:
    async def scenario() -> None:
        spooled, data = await filled(Spool(10 * IN_MEMORY), 2 * IN_MEMORY)
        pieces = spooled.pieces()
        first = await anext(pieces)
        spooled.close()
        assert first + b"".join([piece async for piece in pieces]) == data

    asyncio.run(scenario())
