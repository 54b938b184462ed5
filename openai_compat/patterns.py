"""Names with one ``*`` in them, which stand for many."""

from __future__ import annotations

STAR = "*"


def star_of(pattern: str, name: str) -> str | None:
    """What the ``*`` of ``pattern`` stands for in ``name``: one character at least. None where the name does not fit.

    A pattern without a ``*`` fits itself, and nothing stands for anything.
    """
    before, star, after = pattern.partition(STAR)
    if not star:
        return "" if name == pattern else None
    fits = len(name) > len(before) + len(after) and name.startswith(before) and name.endswith(after)
    return name[len(before) : len(name) - len(after)] if fits else None


def filled(pattern: str, star: str) -> str:
    """``pattern`` with ``star`` in the place of its ``*``."""
    return pattern.replace(STAR, star, 1)
