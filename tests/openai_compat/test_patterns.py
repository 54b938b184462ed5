"""One ``*`` in a name stands for one character or more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.patterns import filled, star_of


@pytest.mark.parametrize(
    ("pattern", "name", "star"),
    [
        ("a", "a", ""),
        ("a", "b", None),
        ("a*", "ab", "b"),
        ("a*", "a", None),
        ("*", "x", "x"),
        ("a*a", "aa", None),
        ("a*b", "a*b", "*"),
    ],
)
def test_a_name_fits_or_not(pattern, name, star) -> None:
    assert star_of(pattern, name) == star


@given(st.text(), st.text(), st.text(min_size=1))
def test_what_is_filled_in_is_found_again(before, after, star) -> None:
    pattern = before.replace("*", "") + "*" + after.replace("*", "")
    assert star_of(pattern, filled(pattern, star)) == star
