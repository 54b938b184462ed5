"""The table of `docs/conformance.md`, made of the stored results.

python tests/compat/suite/page.py [FOLDER=docs/conformance] [PAGE=docs/conformance.md]
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Results = dict[str, Any]
LINK = re.compile(r"\[([^]]*)\]\(+[^)]*\)+")
"""Sentences of other people's tests have links, some of them broken."""
NONE = "\N{EN DASH}"
SIGN = {"pass": "✓", "fail": "**✗**", "skip": NONE, None: ""}
INTRODUCTION = f"""\
# Conformance

What clients find when they talk to this server, and to others of its kind, checked by one suite:
`make conformance BASE_URL=…` ([tests/compat/suite](../tests/compat/suite/README.md)). This page is made from
[the stored results](conformance) by `python tests/compat/suite/page.py`.

✓ passes, **✗** fails, {NONE} cannot be asked: the server has no such route, no model of that kind was named, or it refuses
by name what it lacks. Every answer and event of every check is held to OpenAI's published schema (2.3.0; Anthropic's to its
SDK's types). What neither OpenAI nor Anthropic promises is in a table of its own, and counts for nobody. All were asked on one
machine of two cores, with one small model. vLLM and SGLang cannot be installed there: run the suite where yours runs.
"""


def main(folder: Path, target: Path) -> None:
    target.write_text(rendered(stored(folder)))


def stored(folder: Path) -> list[Results]:
    """The results of each server, ours first."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda results: (results["order"], results["server"]))


def rendered(servers: Sequence[Results]) -> str:
    parts = [INTRODUCTION, *_servers(servers), *_totals(servers)]
    for promise, title in (("openai", "OpenAI's API"), ("anthropic", "Anthropic's API"), ("ours", "What only we ask for")):
        parts += [f"\n## {title}\n", *_checks(servers, promise)]
    parts += ["\n## The published schema\n", *_schema(servers), "\n## What failed, and why something was not asked\n"]
    for found in servers:
        parts += [f"\n### {found['server']}\n", *_reasons(found)]
    return "\n".join(parts) + "\n"


def _servers(servers: Sequence[Results]) -> Iterator[str]:
    yield "\n| | version | model | date | how it was run |\n|---|---|---|---|---|"
    for found in servers:
        yield f"| {found['server']} | {found['version']} | {found['model']} | {found['date']} | {_cell(found['note'])} |"
    for found in servers[:1]:
        yield f"\nClients: {', '.join(found['clients'])}; of JavaScript: {', '.join(found['javascript'])}.\n"


def _totals(servers: Sequence[Results]) -> Iterator[str]:
    yield f"| | ✓ | **✗** | {NONE} | answers held to the schema | kinds of answers that break it |\n|---|---|---|---|---|---|"
    for found in servers:
        counts = Counter(check["status"] for check in found["checks"] if check["promise"] != "ours")
        answers = sum(sum(row["by"].values()) for row in found["schema"])
        broken = sum(1 for row in found["schema"] if row["wrong"])
        told = (counts["pass"], counts["fail"], counts["skip"], answers, f"{broken} of {len(found['schema'])}")
        yield f"| {found['server']} | {' | '.join(map(str, told))} |"


def _checks(servers: Sequence[Results], promise: str) -> Iterator[str]:
    checks = {check["id"]: check for found in servers for check in found["checks"] if check["promise"] == promise}
    yield f"| check | by | | {' | '.join(found['server'] for found in servers)} |"
    yield f"|---|---|---|{'---|' * len(servers)}"
    for id in sorted(checks, key=lambda id: (checks[id]["client"], id)):
        status = (next((check["status"] for check in found["checks"] if check["id"] == id), None) for found in servers)
        says = _cell(checks[id]["says"])
        yield f"| `{id}` | {checks[id]['client']} | {says} | {' | '.join(SIGN[one] for one in status)} |"


def _schema(servers: Sequence[Results]) -> Iterator[str]:
    kinds = sorted({row["of"] for found in servers for row in found["schema"]})
    yield f"| answers of | {' | '.join(found['server'] for found in servers)} |"
    yield f"|---|{'---|' * len(servers)}"
    for kind in kinds:
        rows = [next((row for row in found["schema"] if row["of"] == kind), None) for found in servers]
        cells = (
            NONE if row is None else f"{SIGN['fail' if row['wrong'] else 'pass']} {sum(row['by'].values())}" for row in rows
        )
        yield f"| {kind} | {' | '.join(cells)} |"


def _reasons(found: Results) -> Iterator[str]:
    failed = [check for check in found["checks"] if check["status"] == "fail"]
    for check in failed:
        yield f"- **✗** `{check['id']}`{' (ours)' if check['promise'] == 'ours' else ''}: {_text(check['reason'])}"
    for row in found["schema"]:
        wrong = sorted(row["wrong"])
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        if wrong:
            yield f"- **✗** schema, {row['of']}: {'; '.join(map(_text, wrong[:3]))}{more}"
    skipped: dict[str, list[str]] = {}
    for check in found["checks"]:
        if check["status"] == "skip":
            skipped.setdefault(check["reason"].partition("req_")[0], []).append(f"`{check['id']}`")
    for reason, ids in sorted(skipped.items()):
        few = ", ".join(ids) if len(ids) <= 4 else f"{len(ids)} checks, {ids[0]} to {ids[-1]}"
        yield f"- {NONE} {few}: {_text(reason)}"


def _cell(text: str) -> str:
    return LINK.sub(r"\1", text).replace("|", "\\|").replace("\n", " ")


def _text(reason: str) -> str:
    """A reason as plain text of one line, with nothing in it that Markdown would take for its own."""
    short = reason if len(reason) <= 200 else reason[:199] + "…"
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>{}|#" else letter for letter in short)


def counted(found: Results) -> Counter[str]:
    """How many checks ended how; those that only we ask for are counted apart. Each kind of answer is one more."""
    counts: Counter[str] = Counter()
    for check in found["checks"]:
        counts[("ours " if check["promise"] == "ours" else "") + check["status"]] += 1
    for row in found["schema"]:
        counts["fail" if row["wrong"] else "pass"] += 1
    return counts


def summary(found: Results) -> str:
    """What did not pass, and how much did."""
    others = [check for check in found["checks"] if check["status"] != "pass"]
    lines = [f"{check['status']} {check['id']} ({check['client']}): {check['reason']}" for check in others]
    for row in found["schema"]:
        wrong = [f"{what} (in {where[0]})" for what, where in row["wrong"].items()]
        lines += [f"schema {row['of']}: {line}" for line in wrong]
    lines.append(", ".join(f"{count} {name}" for name, count in sorted(counted(found).items())))
    return "\n".join(lines)


if __name__ == "__main__":
    main(*(Path(word) for word in (*sys.argv[1:], *("docs/conformance", "docs/conformance.md")[len(sys.argv) - 1 :])))
