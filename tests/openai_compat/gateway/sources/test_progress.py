"""Progress is a bar on a terminal and a line now and then in a log."""

from __future__ import annotations

import io

from rich.console import Console

from openai_compat.gateway.sources.progress import PullProgress
from openai_compat.gateway.sources.types import Stage, Step


def shown(*, terminal: bool) -> str:
    output = io.StringIO()
    stages: tuple[tuple[Stage, int], ...] = (
        ("resolving", 0),
        ("downloading", 0),
        ("downloading", 50),
        ("downloading", 100),
        ("placed", 0),
    )
    with PullProgress(Console(file=output, force_terminal=terminal, width=200)) as progress:
        for stage, done in stages:
            progress(Step(model="[tiny]", stage=stage, file="w", done=done, total=100 if stage == "downloading" else 0))
    return output.getvalue()


def test_a_log_gets_one_line_a_stage() -> None:
    assert shown(terminal=False).splitlines() == [
        "[tiny]: is looked up",
        "[tiny]: downloading w, 0 % of 0 MB",
        "[tiny]: is ready",
    ]


def test_a_terminal_gets_a_bar_and_keeps_the_result() -> None:
    text = shown(terminal=True)
    assert "[tiny]: is ready" in text
    assert "━" in text
