"""Where a text may be cut, so that its beginning is heard before its end is spoken."""

# ruff: noqa: RUF001 -- quotes, dashes and full-width signs are what this is about
from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST = 200
"""Characters spoken at a time: about twelve seconds."""

_END = re.compile(r"(?:(?<![.!?…])[.!?…]++[\"'”’)\]]*+(?=\s)|[。！？]+[」』”’）]*|\n\s*\n|\n(?=\s*(?:[-*•]|\d+[.)])\s))")
_CLAUSE = re.compile(r"(?:[,;:]|\s[-–—]|—)(?=\s)|[，；：、]")
_SPACE = re.compile(r"\s+")
_WORD_BEFORE = re.compile(r"([^\s(\"'“‘\[]+)\.$")
_INITIAL = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")
_ABBREVIATIONS = frozenset(
    re.findall(
        r"\w+",
        "mr mrs ms dr prof rev hon st sr jr gen col capt lt sgt gov sen rep pres vs etc approx dept vol pp "
        "inc ltd co corp bros ave blvd rd mt jan feb apr jun jul aug sep sept oct nov dec mon tue thu fri",
    )
)


def split(text: str, longest: int = LONGEST) -> tuple[str, ...]:
    """``text`` in pieces to be spoken one after the other: its sentences, and the clauses of those longer than ``longest``.

    A title, an initial or a number with a dot ends no sentence. Nothing but white space is left out.
    """
    return tuple(piece for sentence in _sentences(text) for piece in _shortened(sentence, longest))


def _sentences(text: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(text):
        if not _goes_on(text, start, end):
            yield from _plain(text[start : end.end()])
            start = end.end()
    yield from _plain(text[start:])


def _goes_on(text: str, start: int, end: re.Match[str]) -> bool:
    """Whether the dot belongs to its word, or what follows begins in lower case."""
    if not end[0].startswith("."):
        return False
    following = text[end.end() :].lstrip()[:1]
    if following.islower():
        return True
    before = _WORD_BEFORE.search(text[start : end.start() + 1])
    if before is None:
        return False
    word = before[1]
    return word.lower() in _ABBREVIATIONS or bool(_INITIAL.fullmatch(word) and word != "I")


def _plain(text: str) -> Iterator[str]:
    if cleaned := _SPACE.sub(" ", text).strip():
        yield cleaned


def _shortened(sentence: str, longest: int) -> Iterator[str]:
    """Cut at the last clause that fits, else at the last space, else anywhere."""
    while len(sentence) > longest:
        cut = _last(_CLAUSE, sentence, longest) or sentence.rfind(" ", 1, longest) + 1 or longest
        yield from _plain(sentence[:cut])
        sentence = sentence[cut:].lstrip()
    yield from _plain(sentence)


def _last(pattern: re.Pattern[str], text: str, longest: int) -> int:
    """Where the last match within the first ``longest`` characters ends, if that is not near the beginning; else 0."""
    ends = [match.end() for match in pattern.finditer(text, 0, longest) if match.end() > longest // 4]
    return ends[-1] if ends else 0
