"""How far a pull is, as a person sees it and as a log file does."""

from __future__ import annotations

import io

from msgspec import structs
from rich.console import Console
from rich.progress import Progress

from openai_compat.cli.pull import Bars, Lines
from openai_compat.gateway.sources.types import Step

PULL = (
    Step(model="m", stage="resolving"),
    *(Step(model="m", stage="downloading", file="a [1]", done=done, total=100) for done in range(101)),
    Step(model="m", stage="downloading", file="b", done=7),
    Step(model="m", stage="placed"),
)


def test_lines_are_few_and_names_are_not_markup() -> None:
    output = io.StringIO()
    lines = Lines(Console(file=output, width=200))
    for step in PULL:
        lines(step)
    shown = output.getvalue().splitlines()
    assert shown[:3] == ["m: resolving", "m: downloading a [1] 0%", "m: downloading a [1] 25%"]
    assert shown[-2:] == ["m: downloading b", "m: placed"]
    assert len(shown) == 8


def test_two_models_that_come_at_once_take_no_more_lines() -> None:
    output = io.StringIO()
    lines = Lines(Console(file=output, width=200))
    for step in PULL:
        lines(step)
        lines(structs.replace(step, model="n"))
    assert len(output.getvalue().splitlines()) == 16


def test_a_bar_begins_anew_with_each_file_and_ends_full() -> None:
    with Progress(console=Console(file=io.StringIO()), auto_refresh=False) as progress:
        bars = Bars(progress)
        seen = []
        for step in PULL:
            bars(step)
            [task] = progress.tasks
            seen.append((task.fields["what"], task.completed, task.total))
    assert seen[0] == ("resolving", 0, None)
    assert seen[51] == ("downloading a [1]", 50, 100)
    assert seen[-2] == ("downloading b", 7, None)
    assert task.finished


def test_each_model_has_a_bar_of_its_own() -> None:
    with Progress(console=Console(file=io.StringIO()), auto_refresh=False) as progress:
        bars = Bars(progress)
        for model in ("a", "b", "a"):
            bars(Step(model=model, stage="downloading", file="x", done=1, total=2))
    assert [task.description for task in progress.tasks] == ["a", "b"]
