"""The table of `docs/conformance.md`, made of the stored results; `python page.py RESULTS_FOLDER` prints it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

Results = dict[str, Any]


def counted(found: Results) -> Counter[str]:
    """How many checks ended how; those that only we ask for are counted apart. A kind of answer that breaks the schema fails."""
    counts: Counter[str] = Counter()
    for check in found["checks"]:
        counts[("ours " if check["promise"] == "ours" else "") + check["status"]] += 1
    for row in found["schema"]:
        counts["fail" if row["wrong"] else "pass"] += 1
    return counts


def summary(found: Results) -> str:
    counts = counted(found)
    lines = [
        f"{check['status']:4} {check['id']} ({check['client']}): {check['reason']}"
        for check in found["checks"]
        if check["status"] != "pass"
    ]
    for row in found["schema"]:
        lines += [
            f"schema {row['of']}, {row['exchanges']} answers: {wrong} (in {where})" for wrong, where in row["wrong"].items()
        ]
    lines.append(", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    return "\n".join(lines)


if __name__ == "__main__":
    for path in sorted(Path(sys.argv[1]).glob("*.json")):
        print(summary(json.loads(path.read_text())))
