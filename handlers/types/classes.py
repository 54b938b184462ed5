"""Texts and what kind of text they are."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from handlers.types.facts import Usage

Category: TypeAlias = Literal[
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
]
CATEGORIES: tuple[Category, ...] = Category.__args__  # type: ignore[attr-defined]


class ClassifyRequest(Struct, frozen=True, kw_only=True):
    """Which of the ``CATEGORIES`` is each of these texts in?"""

    texts: tuple[str, ...]
    mode: str | None = None


class Verdict(Struct, frozen=True, kw_only=True):
    """What was found in one text; scores from 0 to 1.

    ``labels`` are the model's own; ``scores`` has the categories that it can tell, and ``flagged`` those of them whose score
    is high enough.
    """

    labels: dict[str, float]
    scores: dict[Category, float]
    flagged: frozenset[Category]


class ClassifyResult(Struct, frozen=True, kw_only=True):
    """One verdict a text, in input order."""

    verdicts: tuple[Verdict, ...]
    usage: Usage = Usage()
