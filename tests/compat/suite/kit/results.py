"""What the checks found, one JSON object a line: first all that are to run, then each as it ends.

So what a check that hangs or a suite that is ended leaves behind is known: what is planned and has no outcome has failed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PLACE = re.compile(r"(?<![\w./-])(?:file://)?/(?:home|root|tmp|usr|var|work|opt|Users)/[^\s'\")]*")
"""A place on somebody's machine, which is nobody's business."""
REASON = 400
"""Characters of a reason that are kept."""


class Log:
    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_text("")

    def add(self, kind: str, **values: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"kind": kind, **values}) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def merged(lines: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Checks by id with their outcomes, and the schema's verdict of each kind of answer."""
    lines = list(lines)
    ended = {line["id"]: line for line in lines if line["kind"] == "outcome"}
    unended = {"status": "fail", "reason": "did not end", "seconds": None}
    checks = [
        {key: value for key, value in {**line, **ended.get(line["id"], unended)}.items() if key != "kind"}
        for line in lines
        if line["kind"] == "planned"
    ]
    return {"checks": sorted(checks, key=lambda check: (check["client"], check["id"])), "schema": _schema(lines)}


def _schema(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By kind of answer: how many each check had of it, and what was wrong in which."""
    kinds: dict[str, dict[str, Any]] = {}
    for line in lines:
        if line["kind"] == "exchange":
            row = kinds.setdefault(line["of"], {"of": line["of"], "by": {}, "wrong": {}})
            row["by"][line["check"]] = row["by"].get(line["check"], 0) + 1
            for wrong in line["wrong"]:
                row["wrong"][wrong] = sorted({*row["wrong"].get(wrong, ()), line["check"]})
    return [kinds[name] for name in sorted(kinds)]


def joined(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What is found ``now``, and what was found ``before`` by the checks that were not made again."""
    again = {check["id"] for check in now["checks"]}
    checks = [*now["checks"], *(check for check in before["checks"] if check["id"] not in again)]
    rows = {row["of"]: {**row, "by": dict(row["by"]), "wrong": dict(row["wrong"])} for row in now["schema"]}
    for row in before["schema"]:
        kept = rows.setdefault(row["of"], {"of": row["of"], "by": {}, "wrong": {}})
        kept["by"] |= {check: count for check, count in row["by"].items() if check not in again}
        for wrong, where in row["wrong"].items():
            if others := set(where) - again:
                kept["wrong"][wrong] = sorted(others | set(kept["wrong"].get(wrong, ())))
    schema = [rows[name] for name in sorted(rows) if rows[name]["by"]]
    return {**now, "checks": sorted(checks, key=lambda check: (check["client"], check["id"])), "schema": schema}


def short(reason: str) -> str:
    said = reason.partition("\n +  where ")[0].partition("\nassert ")[0] or reason
    words = PLACE.sub("…", " ".join(said.split()).removesuffix(" Use -v to get more diff"))
    return words if len(words) <= REASON else words[: REASON - 1] + "…"
