"""Objects belong to the key that made them; pages follow one another without gaps."""

from __future__ import annotations

import time

import pytest


async def fill(objects, *names: str, owner: str = "me") -> None:
    for name in names:
        await objects.add(name, owner=owner, status="queued", created=1, body=name.encode())


def test_to_another_key_an_object_does_not_exist(store, in_time) -> None:
    async def scenario() -> None:
        async with store() as opened:
            videos = opened.objects("video")
            await fill(videos, "a")
            await fill(videos, "b", owner="you")
            assert (await videos.get("a", "me")).body == b"a"
            assert await videos.get("a", "you") is None
            assert await videos.get("a", "") is None
            assert await opened.objects("response").get("a", "me") is None
            page = await videos.page("me", after=None, limit=9, order="asc")
            assert [item.id for item in page.items] == ["a"]

    in_time(scenario())


@pytest.mark.parametrize(("order", "names"), [("asc", "abcde"), ("desc", "edcba")])
def test_pages_follow_one_another(store, in_time, order, names) -> None:
    async def scenario() -> None:
        async with store() as opened:
            videos = opened.objects("video")
            await fill(videos, *"abcde")
            seen, after, more = "", None, True
            while more:
                page = await videos.page("me", after=after, limit=2, order=order)
                seen += "".join(item.id for item in page.items)
                after, more = page.items[-1].number, page.has_more
            assert seen == names

    in_time(scenario())


def test_what_has_expired_is_gone_before_it_is_swept(store, in_time) -> None:
    async def scenario() -> None:
        async with store() as opened:
            videos = opened.objects("video")
            await fill(videos, "a", "b")
            await videos.change("a", status="completed", body=b"a2", expires=int(time.time()) - 1)
            await videos.change("b", status="completed", body=b"b2", expires=int(time.time()) + 60)
            assert await videos.get("a", "me") is None
            assert (await videos.get("b", "me")).body == b"b2"
            assert [item.id for item in (await videos.page("me", after=None, limit=9, order="asc")).items] == ["b"]

    in_time(scenario())


def test_what_an_earlier_server_left_is_found_by_its_status(store, in_time) -> None:
    async def scenario() -> None:
        async with store() as opened:
            await fill(opened.objects("video"), "a", "b")
            await opened.objects("video").change("b", status="completed", body=b"b")
        async with store() as opened:
            found = await opened.objects("video").with_status("queued", "in_progress")
            assert [item.id for item in found] == ["a"]

    in_time(scenario())
