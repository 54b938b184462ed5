"""A custom tool's input comes out of its JSON the same, however the pieces are cut."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.translate.responses.unwrapping import Unwrapping

TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"])) | st.text(alphabet='"\\/bfnrtu{}:,d83 \n\t😀é')
CUTS = st.lists(st.integers(0, 400), max_size=12)


def unwrapped(pieces: list[str]) -> str:
    unwrapping = Unwrapping()
    return "".join([*(unwrapping.feed(piece) for piece in pieces), unwrapping.rest()])


def cut(text: str, places: list[int]) -> list[str]:
    ends = sorted({min(place, len(text)) for place in places} | {len(text)})
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(text=TEXTS, ascii=st.booleans(), spaces=st.sampled_from(["", " ", "\n  "]), places=CUTS)
def test_an_input_is_unwrapped_at_any_cut(text: str, ascii: bool, spaces: str, places: list[int]) -> None:
    wrapped = f'{spaces}{{{spaces}"input"{spaces}:{spaces}{json.dumps(text, ensure_ascii=ascii)}{spaces}}}{spaces}'
    assert unwrapped(cut(wrapped, places)) == text


@given(text=st.text(alphabet='"\\u{}:inptDd8034 ,xé', max_size=60) | st.text(max_size=60), places=CUTS)
def test_whatever_else_comes_is_the_same_at_any_cut_and_can_be_sent(text: str, places: list[int]) -> None:
    whole = unwrapped([text])
    assert unwrapped(cut(text, places)) == whole
    assert unwrapped(list('{"input": "' + text)) == unwrapped(['{"input": "' + text])
    unwrapped(['{"input": "' + text.encode("utf-8", "replace").decode()]).encode()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", ""),
        ("{}", ""),
        (" { } ", ""),
        ("*** Begin Patch", "*** Begin Patch"),
        ('{"patch": "x"}', '{"patch": "x"}'),
        ('{"input": 5}', '{"input": 5}'),
        ('{"input": "a", "more": 1}', "a"),
        ('{"input": "cut of', "cut of"),
        ('{"input": "a\\', "a"),
        ('{"input": "\\u12', ""),
        ('{"input": "\\ud83d\\ude00"}', "😀"),
        ('{"input": "\\ud83d"}', "\ufffd"),
        ('{"input": "\\ud83dx"}', "\ufffdx"),
        ('{"input": "\\ude00\\ud83d\\u0041"}', "\ufffd\ufffdA"),
        ('{"input": "\\ud83d', "\ufffd"),
        ('{"input": "\\q\\uZZZZ"}', "\\q\\uZZZZ"),
        ('{"input": "two\nlines"}', "two\nlines"),
        ('{"inp', '{"inp'),
    ],
)
def test_what_models_write_instead_is_not_lost(arguments: str, expected: str) -> None:
    assert unwrapped([arguments]) == expected
    assert unwrapped(list(arguments)) == expected


def test_a_long_input_is_unwrapped_as_fast_as_a_short_one_in_single_characters() -> None:
    def seconds(length: int) -> float:
        pieces = ['{"input": "', *["a\\n"] * length, '"}']
        begun = time.process_time()
        unwrapped(pieces)
        return time.process_time() - begun

    seconds(1000)
    assert min(seconds(40_000) for _ in range(3)) < 30 * min(seconds(4000) for _ in range(3))


@pytest.mark.parametrize("piece", [" ", '{"input"' + " "])
def test_a_head_that_never_ends_is_no_head(piece: str) -> None:
    unwrapping = Unwrapping()
    came = sum(len(unwrapping.feed(piece)) for _ in range(1000))
    assert came > 500
