"""Files within a quota: what would expire first goes first, what is in use stays."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from openai_compat.errors import NotFound, Unavailable


def later(seconds: float) -> int:
    return int(time.time() + seconds)


def files(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "kept" / "media").iterdir()}


async def put(opened, size: int, expires: int | None, object: str | None = None) -> str:
    media = await opened.media.put(b"x" * size, ".png", type="image/png", owner="", expires=expires, object=object)
    return media.name


def test_a_file_comes_back_as_it_was_written(store, in_time) -> None:
    async def scenario() -> None:
        async with store() as opened:
            writer = opened.media.writer(".mp4", type="video/mp4", owner="me")
            for piece in (b"a" * 300_000, b"", b"b" * 300_000):
                await writer.write(piece)
            media = await writer.finish(later(60))
            file = await opened.media.open(await opened.media.find(media.name))
            assert await file.read() == b"a" * 300_000 + b"b" * 300_000
            assert (media.type, media.size, opened.media.used) == ("video/mp4", 600_000, 600_000)
            file.close()

    in_time(scenario())


def test_names_cannot_be_guessed_and_files_be_read_by_nobody_else(store, in_time, tmp_path) -> None:
    async def scenario() -> None:
        async with store() as opened:
            names = {await put(opened, 1, later(60)) for _ in range(8)}
            assert {len(name) for name in names} == {43 + len(".png")}
            assert files(tmp_path) == names
            modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "kept").rglob("*.png")}
            folders = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "kept", tmp_path / "kept" / "media")}
            assert (modes, folders) == ({0o600}, {0o700})

    in_time(scenario())


def test_room_is_made_by_what_would_expire_first(store, in_time, tmp_path) -> None:
    async def scenario() -> None:
        async with store(quota=100) as opened:
            late, soon = await put(opened, 40, later(900)), await put(opened, 40, later(60))
            new = await put(opened, 40, later(600))
            assert files(tmp_path) == {late, new}
            with pytest.raises(NotFound):
                await opened.media.find(soon)
            assert opened.media.used == 80

    in_time(scenario())


def test_what_is_in_use_stays_and_the_new_is_refused(store, in_time, tmp_path) -> None:
    async def scenario() -> None:
        async with store(quota=100) as opened:
            used, gone = await put(opened, 80, None), await put(opened, 10, later(60))
            with pytest.raises(Unavailable) as caught:
                await put(opened, 30, later(60))
            assert caught.value.code == "storage_full"
            assert files(tmp_path) == {used, gone}
            assert opened.media.used == 90

    in_time(scenario())


def test_an_object_goes_with_its_files(store, in_time, tmp_path) -> None:
    async def scenario() -> None:
        async with store(quota=100) as opened:
            videos = opened.objects("video")
            await videos.add("v", owner="", status="completed", created=1, body=b"{}")
            await put(opened, 30, later(60), "v")
            await put(opened, 30, later(90), "v")
            assert [media.size for media in await opened.media.of_object("v")] == [30, 30]
            new = await put(opened, 60, later(600))
            assert await videos.get("v", "") is None
            assert (files(tmp_path), opened.media.used) == ({new}, 60)

    in_time(scenario())


def test_what_belongs_to_an_object_is_behind_no_link(store, in_time) -> None:
    async def scenario() -> None:
        async with store() as opened:
            await opened.objects("video").add("v", owner="", status="completed", created=1, body=b"{}")
            with pytest.raises(NotFound):
                await opened.media.find(await put(opened, 30, later(60), "v"))

    in_time(scenario())


def test_a_sweep_removes_what_has_had_its_time(store, in_time, tmp_path) -> None:
    async def scenario() -> None:
        async with store() as opened:
            videos = opened.objects("video")
            await videos.add("v", owner="", status="completed", created=1, body=b"{}")
            await put(opened, 30, later(900), "v")
            await videos.change("v", status="completed", body=b"{}", expires=later(-1))
            old, new = await put(opened, 5, later(-1)), await put(opened, 7, later(60))
            with pytest.raises(NotFound):
                await opened.media.find(old)
            await opened.media.expire()
            assert (files(tmp_path), opened.media.used) == ({new}, 7)

    in_time(scenario())


def test_half_a_file_is_removed_by_whoever_gives_it_up_or_by_the_next_server(store, in_time, tmp_path) -> None:
    async def scenario() -> None:
        async with store() as opened:
            name = await put(opened, 5, later(60))
            given_up = opened.media.writer(".mp4", type="video/mp4", owner="")
            await given_up.write(b"x" * 50)
            await given_up.discard()
            assert (files(tmp_path), opened.media.used) == ({name}, 5)
            killed = opened.media.writer(".mp4", type="video/mp4", owner="")
            await killed.write(b"x" * 50)
        async with store() as opened:
            assert (files(tmp_path), opened.media.used) == ({name}, 5)

    in_time(scenario())


def test_somebody_else_s_files_in_a_configured_folder_stay(store, in_time, tmp_path) -> None:
    album = tmp_path / "kept" / "media" / "album"
    album.mkdir(parents=True)
    photo = album.parent / "holiday.jpg"
    photo.write_bytes(b"dear")

    async def scenario() -> None:
        async with store() as opened:
            assert opened.media.used == 0
        assert photo.read_bytes() == b"dear"
        assert album.is_dir()

    in_time(scenario())


def test_a_file_whose_object_was_removed_meanwhile_is_not_kept(store, in_time, tmp_path) -> None:
    async def scenario() -> None:
        async with store() as opened:
            with pytest.raises(NotFound):
                await put(opened, 5, None, object="video_gone")
            assert (files(tmp_path), opened.media.used) == (set(), 0)

    in_time(scenario())


def test_a_file_that_is_being_read_can_be_removed(store, in_time) -> None:
    async def scenario() -> None:
        async with store() as opened:
            media = await opened.media.find(await put(opened, 600_000, later(60)))
            file = await opened.media.open(media)
            pieces = file.pieces()
            first = await anext(pieces)
            await opened.media.remove(media)
            assert len(first) + sum([len(piece) async for piece in pieces]) == 600_000
            file.close()

    in_time(scenario())
