from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from handlers.decoding.stops import StopMatcher


def run(stops: tuple[str, ...], pieces: list[str]) -> tuple[str, bool]:
    matcher = StopMatcher(stops)
    shown = ""
    for piece in pieces:
        shown += matcher.feed(piece)
        if matcher.hit:
            return shown, True
    return shown + matcher.finish(), False


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=4), st.data())
def test_any_way_of_cutting_the_text_ends_before_the_first_stop(text: str, stops: list[str], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    shown, hit = run(tuple(stops), pieces)
    found = [where for where in map(text.find, stops) if where >= 0]
    assert hit == bool(found)
    if not found:
        assert shown == text
    else:
        assert not any(stop in shown for stop in stops)
        assert text.startswith(shown)


def test_the_beginning_of_a_stop_is_held_back_until_it_is_none() -> None:
    matcher = StopMatcher(("END",))
    assert [matcher.feed(piece) for piece in ("say E", "N", "O")] == ["say ", "", "ENO"]


def test_what_was_held_back_comes_out_at_the_end() -> None:
    matcher = StopMatcher(("END",))
    assert matcher.feed("the EN") == "the "
    assert matcher.finish() == "EN"


def test_without_stops_text_passes_unchanged() -> None:
    assert run((), ["a", "b"]) == ("ab", False)


def test_the_first_stop_in_the_text_is_the_one_that_is_told() -> None:
    matcher = StopMatcher(("END", "STOP"))
    assert matcher.hit is None
    assert matcher.feed("go ST") + matcher.feed("OP and END") == "go "
    assert matcher.hit == "STOP"
