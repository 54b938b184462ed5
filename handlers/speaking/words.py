"""English as it is written → words that a pronouncing dictionary has: times, units, fractions, addresses, signs.

Numbers, sums of money, ordinals and years are left to the dictionary's own rules.
"""

# ruff: noqa: RUF001 -- quotes, dashes and signs are what this is about
from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

_Rule = tuple[re.Pattern[str], "str | Callable[[re.Match[str]], str]"]

_UNITS = {
    "km/h": "kilometers per hour", "kph": "kilometers per hour", "mph": "miles per hour", "m/s": "meters per second",
    "km": "kilometers", "cm": "centimeters", "mm": "millimeters", "m": "meters", "mi": "miles", "ft": "feet",
    "kg": "kilograms", "mg": "milligrams", "g": "grams", "lb": "pounds", "lbs": "pounds", "oz": "ounces",
    "ml": "milliliters", "l": "liters", "kW": "kilowatts", "W": "watts", "V": "volts", "Hz": "hertz", "kHz": "kilohertz",
    "MHz": "megahertz", "GHz": "gigahertz", "kB": "kilobytes", "KB": "kilobytes", "MB": "megabytes", "GB": "gigabytes",
    "TB": "terabytes", "ms": "milliseconds", "min": "minutes", "hrs": "hours", "°C": "degrees Celsius",
    "°F": "degrees Fahrenheit", "°": "degrees",
}  # fmt: skip
_PARTS = {"2": "half", "3": "third", "4": "quarter", "5": "fifth", "8": "eighth", "10": "tenth"}
_UNIT = "|".join(map(re.escape, sorted(_UNITS, key=len, reverse=True)))
_LETTER_DOT = re.compile(r"(?<=\w)\.(?=\w)")
_DIGITS_AT_A_TIME = 15


def spoken_words(text: str) -> str:
    """Raises nothing; what no rule knows stays as it is."""
    text = _folded(text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def mostly_foreign(text: str) -> bool:
    """Whether more of the letters are of other alphabets than of the Latin one."""
    letters = [char for char in unicodedata.normalize("NFKD", text).translate(_LETTERS) if char.isalpha()]
    return sum(not char.isascii() for char in letters) * 2 > len(letters)


def _folded(text: str) -> str:
    """Letters without accents: the dictionary has ``cafe``. Superscripts become digits, curly quotes straight ones, and letters
    of other alphabets nothing.
    """
    decomposed = unicodedata.normalize("NFKD", text.replace("²", " squared").replace("³", " cubed"))
    plain = "".join(char for char in decomposed if not unicodedata.combining(char))
    spelled = plain.translate(_QUOTES).translate(_LETTERS)
    return "".join(char for char in spelled if char.isascii() or not char.isalpha())


_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "th", "þ": "th", "Ø": "O", "Ł": "L"}
)
_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "…": "...", "⁄": "/", "\u00a0": " "})


def _address(match: re.Match[str]) -> str:
    tail = re.search(r"[.,;:!?]*$", match[0])
    end = tail[0] if tail else ""
    body = re.sub(r"^(?:https?://)?(?:www\.)?", "", match[0][: len(match[0]) - len(end)]).rstrip("/")
    body = _LETTER_DOT.sub(" dot ", body).replace("@", " at ").replace("/", " slash ")
    return re.sub(r"[_?=&#%-]+", " ", body) + end


def _time(match: re.Match[str]) -> str:
    hour, minute, half = match["hour"], match["minute"], match["half"]
    if minute == "00":
        said = hour if half else f"{hour} o'clock"
    else:
        said = f"{hour} oh {minute[1]}" if minute[0] == "0" else f"{hour} {minute}"
    return f"{said} {half}" if half else said


def _fraction(match: re.Match[str]) -> str:
    top, bottom = match["top"], match["bottom"]
    part = _PARTS.get(bottom)
    if part is None:
        return f"{top} over {bottom}"
    number = f"{match['whole']} and " if match["whole"] else ""
    name = {"half": "halves"}.get(part, part + "s") if int(top) != 1 else part
    return f"{number}{top} {name}"


def _long_number(match: re.Match[str]) -> str:
    return " ".join(match[0])


def _compile(pattern: str, flags: int = 0) -> re.Pattern[str]:
    return re.compile(pattern, flags)


_RULES: tuple[_Rule, ...] = (
    (_compile(r"\S+@\w[\w-]*(?:\.\w+)+|\bhttps?://\S+|\bwww\.\S+"), _address),
    (_compile(r"\b(?P<hour>\d{1,2}):(?P<minute>[0-5]\d)(?!\d|:)(?:\s?(?P<half>[ap]\.?m\b\.?))?", re.I), _time),
    (_compile(r"(?<=\d):(?=\d)"), " to "),
    (_compile(r"(?:(?P<whole>\d+)\s)?(?<![\d/.])(?P<top>\d{1,3})/(?P<bottom>\d{1,3})(?![\d/])"), _fraction),
    (_compile(rf"(?<=\d)\s?(?P<unit>{_UNIT})(?![\w/])"), lambda match: f" {_UNITS[match['unit']]}"),
    (_compile(rf"\d{{{_DIGITS_AT_A_TIME + 1},}}"), _long_number),
    (_compile(r"(?<![\d-])(\d{1,2}|\d{4})\s?[-–]\s?(\d{1,2}|\d{4})(?![\d-])"), r"\1 to \2"),
    (_compile(r"(?<=\d)(?!(?:st|nd|rd|th|s)\b)(?=[A-Za-z])"), " "),
    (_compile(r"\bNos?\.\s?(?=\d)"), "number "),
    (_compile(r"#\s?(?=\d)"), "number "),
    (_compile(r"\bSt\.\s(?=[A-Z])"), "Saint "),
    (_compile(r"\bSt\.$"), "Street."),
    (_compile(r"\bSt\.(?=\s)"), "Street"),
    (_compile(r"\bvs\.?(?=\s)", re.I), "versus"),
    (_compile(r"\betc\.", re.I), "et cetera."),
    (_compile(r"\be\.g\.,?"), "for example,"),
    (_compile(r"\bi\.e\.,?"), "that is,"),
    (_compile(r"\s?[=]\s?"), " equals "),
    (_compile(r"\s?<\s?"), " is less than "),
    (_compile(r"\s?>\s?"), " is greater than "),
    (_compile(r"~\s?(?=\d)"), "about "),
    (_compile(r"\s?[×]\s?"), " times "),
    (_compile(r"[*_`|\\^~<>{}\[\]]+"), " "),
)
