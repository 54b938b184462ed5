from __future__ import annotations

import pytest

from openai_compat.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        (5, 5),
        ("5", 5),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("1.5 GiB", 1610612736),
        ("500MB", 500_000_000),
        ("2tib", 2 << 40),
    ],
)
def test_sizes_are_read_with_either_kind_of_unit(text, size) -> None:
    assert parse_size(text) == size


def test_a_percentage_is_a_share_of_the_whole() -> None:
    assert parse_size("80%", whole=1000) == 800
    assert parse_size("4GiB", whole=1) == 4 << 30


@pytest.mark.parametrize("text", ["", "lots", "4 GiBs", "-1", "1e9", -1, "80%", "GiB"])
def test_anything_else_is_refused(text) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_size(text)


def test_more_than_all_is_refused() -> None:
    with pytest.raises(ValueError, match="more than there is"):
        parse_size("101%", whole=100)


def test_sizes_are_shown_in_few_digits() -> None:
    assert [format_size(n) for n in (0, 999, 1024, 1536, 200 * 1024, 5 << 30, 3 << 41)] == [
        "0 B",
        "999 B",
        "1.0 KiB",
        "1.5 KiB",
        "200 KiB",
        "5.0 GiB",
        "6.0 TiB",
    ]
