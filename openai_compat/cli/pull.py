"""``openai-compat pull``: fetch models, with bars where a person looks and lines where a file does."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from openai_compat.config import Config
from openai_compat.gateway.inspect import Pulled, pull_models
from openai_compat.gateway.sources.types import Step


def pull(config: Config, names: Sequence[str]) -> bool:
    """Whether all of them are here now. Raises ``ModelNotFound``."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if console.is_terminal:
        with _bars(console) as progress:
            ended = pull_models(config, names, Bars(progress))
    else:
        ended = pull_models(config, names, Lines(console))
    for model in ended:
        _tell(console, model)
    return not any(model.error for model in ended)


class Bars:
    """One bar a model; it begins anew with each stage and file."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._at: dict[str, tuple[str, str]] = {}

    def __call__(self, step: Step) -> None:
        if step.model not in self._tasks:
            self._tasks[step.model] = self._progress.add_task(step.model, total=None, what="")
        task = self._tasks[step.model]
        if self._at.get(step.model) != (step.stage, step.file):
            self._at[step.model] = (step.stage, step.file)
            self._progress.reset(task)
        what = f"{step.stage} {step.file}".strip()
        total = 1 if step.stage == "placed" else step.total or None
        self._progress.update(task, completed=total if step.stage == "placed" else step.done, total=total, what=what)


class Lines:
    """One line for each stage and file, and one every tenth of a long one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: tuple[str, str, str, int] | None = None

    def __call__(self, step: Step) -> None:
        tenths = step.done * 10 // step.total if step.total else 0
        now = (step.model, step.stage, step.file, tenths)
        if now != self._said:
            self._said = now
            share = f" {tenths * 10}%" if step.total else ""
            self._console.print(f"{step.model}: {step.stage} {step.file}".rstrip() + share, markup=False)


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[what]}", style="dim", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        console=console,
    )


def _tell(console: Console, model: Pulled) -> None:
    if model.error:
        console.print(f"{model.id}: failed: {model.error}", style="red", markup=False)
    else:
        console.print(f"{model.id}: ready", markup=False)
