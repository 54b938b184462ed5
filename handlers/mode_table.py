"""The tables of modes in ``docs/modes.md``; ``python -m handlers.mode_table docs/modes.md`` writes them anew."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from handlers.registry import KINDS, resolve
from handlers.types import Mode

_SAMPLING = ("temperature", "top_p", "top_k", "repetition_penalty", "max_tokens")


def markdown(modes: Mapping[str, Mode]) -> str:
    """One section a mode, with everything the mode sets."""
    return "\n".join(_section(name, mode) for name, mode in modes.items())


def updated(page: str) -> str:
    """The page with what stands between ``<!-- modes of KIND -->`` and ``<!-- end -->`` made from the handlers' own tables."""
    for kind in KINDS:
        block = re.compile(rf"(?<=<!-- modes of {kind} -->\n).*?(?=<!-- end -->)", re.DOTALL)
        page = markdown(resolve(kind).modes).join(block.split(page, maxsplit=1))
    return page


def _section(name: str, mode: Mode) -> str:
    sampling = ", ".join(f"{field} {value}" for field in _SAMPLING if (value := getattr(mode, field)) is not None)
    variables = ", ".join(f"`{key}` (default: {value})" for key, value in mode.variables.items())
    rows = {
        "Required input": mode.requires,
        "System prompt": _quoted(mode.system_prompt),
        "Template": _quoted(mode.template),
        "Options": variables,
        "Sampling": sampling,
        "Output": mode.output,
    }
    lines = [f"- {title}: {value}" for title, value in rows.items() if value]
    return f"### `{name}`\n\n{mode.description}\n\n" + "\n".join(lines) + "\n"


def _quoted(text: str | None) -> str:
    return "" if text is None else "`" + text.replace("\n", "⏎") + "`"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(updated(file.read_text(encoding="utf-8")), encoding="utf-8")
