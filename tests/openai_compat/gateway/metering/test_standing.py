"""Durations as OpenAI's clients know them."""

from __future__ import annotations

import pytest

from openai_compat.gateway.metering.standing import Told, spelled


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, b"0s"),
        (1, b"1s"),
        (60, b"1m0s"),
        (61, b"1m1s"),
        (360, b"6m0s"),
        (3600, b"1h0m0s"),
        (86_341, b"23h59m1s"),
        (87_300, b"24h15m0s"),
    ],
)
def test_a_duration_is_spelled_as_openai_spells_it(seconds: int, text: bytes) -> None:
    assert spelled(seconds) == text


def test_a_part_of_a_second_is_a_second() -> None:
    assert Told("requests", 5).headers(3, 0.2) == (
        (b"x-ratelimit-limit-requests", b"5"),
        (b"x-ratelimit-remaining-requests", b"2"),
        (b"x-ratelimit-reset-requests", b"1s"),
    )
