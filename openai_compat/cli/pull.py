"""``openai-compat pull``: fetch models, with bars where a person looks and lines where a file does."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from openai_compat.config import Config
from openai_compat.gateway.catalog import Catalog
from openai_compat.gateway.discovery import Discovery
from openai_compat.gateway.inspect import Pulled, pull_models
from openai_compat.gateway.offers import Offers
from openai_compat.gateway.order import LocalTarget
from openai_compat.gateway.sources.types import Step


def pull(config: Config, names: Sequence[str]) -> bool:
    """Whether all of them are here now; what is elsewhere needs no files. Raises ``ModelNotFound``."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if names:
        names = _of_this_machine(config, names, console)
        if not names:
            return True
    if console.is_terminal:
        with _bars(console) as progress:
            ended = pull_models(config, names, Bars(progress))
    else:
        ended = pull_models(config, names, Lines(console))
    for model in ended:
        _tell(console, model)
    return not any(model.error for model in ended)


def _of_this_machine(config: Config, names: Sequence[str], console: Console) -> list[str]:
    """Those of ``names`` that are no routes, and no models of upstreams. Raises ``ModelNotFound``."""
    offers = Offers(config, Catalog(config), Discovery(config))
    ours: list[str] = []
    for name in names:
        if isinstance(offers.find(name).only, LocalTarget):
            ours.append(name)
        else:
            console.print(f"{name}: is elsewhere, and needs no files", markup=False)
    return ours


class Bars:
    """One bar a model; it begins anew with each stage and file. Threads tell of a model each."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._shown: dict[str, tuple[str, TaskID]] = {}

    def __call__(self, step: Step) -> None:
        task = self._task(step.model, f"{step.stage} {step.file}".strip())
        if step.stage == "placed":
            self._progress.update(task, completed=1, total=1)
        else:
            self._progress.update(task, completed=step.done, total=step.total or None)

    def _task(self, model: str, what: str) -> TaskID:
        """A bar that has once known its total never forgets it, so what is new gets a new one."""
        shown = self._shown.get(model)
        if shown and shown[0] == what:
            return shown[1]
        if shown:
            self._progress.remove_task(shown[1])
        task = self._progress.add_task(model, total=None, what=what)
        self._shown[model] = (what, task)
        return task


class Lines:
    """One line for each stage and file of a model, and one every quarter of a long one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: dict[str, tuple[str, str, int]] = {}

    def __call__(self, step: Step) -> None:
        quarters = step.done * 4 // step.total if step.total else 0
        now = (step.stage, step.file, quarters)
        if now != self._said.get(step.model):
            self._said[step.model] = now
            share = f" {quarters * 25}%" if step.total else ""
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
