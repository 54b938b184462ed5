"""Pictures behind links, as the openai package asks for them."""

from __future__ import annotations

import httpx2
import openai
import pytest


def test_a_picture_can_be_fetched_by_its_link_without_a_key(client: openai.OpenAI, server_url: str) -> None:
    answer = client.images.generate(model="echo", prompt="sea", size="512x512", n=2, response_format="url")
    links = [item.url for item in answer.data or []]
    assert len(set(links)) == 2
    for link in links:
        assert str(link).startswith(f"{server_url}/media/")
        shown = httpx2.get(str(link))
        assert shown.content.startswith(b"\x89PNG")
        assert (shown.headers["content-type"], shown.headers["x-content-type-options"]) == ("image/png", "nosniff")


def test_an_unknown_link_is_a_404_in_openai_s_shape(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.get("/media/nothing.png", cast_to=object)
    assert caught.value.code == "not_found"
