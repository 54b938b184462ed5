"""Sizes as people write them: ``"4GiB"``, ``"500 MB"``, ``"80%"``."""

from __future__ import annotations

import re

_UNITS = {
    "": 1,
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", start=1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", start=1)},
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z%]*)\s*", re.IGNORECASE)


def parse_size(value: int | str, whole: int | None = None) -> int:
    """Bytes. ``whole`` is what a percentage is a share of; without it percentages are refused.

    Raises ``ValueError`` with a message fit for the configuration's author.
    """
    if isinstance(value, int):
        return _not_negative(value)
    match = _SIZE.fullmatch(value)
    if match is None:
        raise ValueError(f'\'{value}\' is not a size: write bytes, or text such as "4GiB" or "500MB"')
    number, unit = float(match[1]), match[2].lower()
    if unit == "%":
        return _share(number, whole)
    if unit not in _UNITS:
        raise ValueError(f"'{value}' has no unit that is known: use B, kB, MB, GB, TB, KiB, MiB, GiB or TiB")
    return int(number * _UNITS[unit])


def format_size(count: float) -> str:
    """``4.2 GiB``: three digits at most, in powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _share(percent: float, whole: int | None) -> int:
    if whole is None:
        raise ValueError('a percentage makes no sense here: write bytes, or text such as "4GiB"')
    if percent > 100:
        raise ValueError(f"{percent:g}% is more than there is")
    return int(whole * percent / 100)


def _not_negative(value: int) -> int:
    if value < 0:
        raise ValueError(f"{value} is negative: a size is a number of bytes")
    return value
