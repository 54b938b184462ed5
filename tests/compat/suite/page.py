"""The table of `docs/conformance.md`, made of the stored results; `python page.py RESULTS_FOLDER` prints it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

Results = dict[str, Any]


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
        wrong = [f"{what} (in {where})" for what, where in row["wrong"].items()]
        lines += [f"schema {row['of']}, {row['exchanges']} answers: {line}" for line in wrong]
    lines.append(", ".join(f"{count} {name}" for name, count in sorted(counted(found).items())))
    return "\n".join(lines)


if __name__ == "__main__":
    for path in sorted(Path(sys.argv[1]).glob("*.json")):
        print(summary(json.loads(path.read_text())))
