"""Reasoning goes to the client and comes back as it was; anything else is nothing."""

from __future__ import annotations

import base64
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.translate.responses.thoughts import MAX_TEXT, Unsealing, seal


def unseal(sealed: str) -> str | None:
    return Unsealing().open(sealed)


@given(st.text())
def test_what_was_packed_comes_back(text: str) -> None:
    plain = text.encode("utf-8", "replace").decode()
    assert unseal(seal(plain)) == plain


@given(st.text(max_size=40), st.integers(0, 200), st.characters(min_codepoint=33, max_codepoint=122))
def test_what_was_changed_on_the_way_is_nothing_or_the_same(text: str, place: int, sign: str) -> None:
    plain = text.encode("utf-8", "replace").decode()
    sealed = seal(plain)
    place %= len(sealed)
    assert unseal(sealed[:place] + sign + sealed[place + 1 :]) in (None, plain)
    assert unseal(sealed[:place]) is None


@pytest.mark.parametrize("foreign", ["", "r1.", "r2.AAAA", "gAAAAABo", "r1.é", "r1.====", "r1.AAAA", "r1." + "A" * (5 << 20)])
def test_what_others_made_is_nothing(foreign: str) -> None:
    assert unseal(foreign) is None


@given(st.text())
def test_any_text_can_be_looked_at(text: str) -> None:
    assert unseal(text) is None
    unseal("r1." + text)


def test_one_request_s_blobs_together_become_only_so_much() -> None:
    unsealing, large = Unsealing(), seal("a" * (MAX_TEXT // 2))
    assert len(large) < 100_000
    found = [unsealing.open(large) for _ in range(2000)]
    assert [text is not None for text in found] == [True, True] + [False] * 1998


def test_blobs_that_are_broken_at_their_end_are_not_free() -> None:
    unsealing, large = Unsealing(), seal("a" * MAX_TEXT)
    begun = time.process_time()
    assert {unsealing.open(large[:-6] + "AAAAA=") for _ in range(2000)} == {None}
    assert time.process_time() - begun < 2


def test_a_bomb_is_nothing() -> None:
    raw = b"a" * (MAX_TEXT + 1)
    bomb = base64.urlsafe_b64encode(zlib.compress(raw) + zlib.crc32(raw).to_bytes(4)).decode()
    assert unseal("r1." + bomb) is None
    assert seal("a" * (MAX_TEXT + 1)) == ""
