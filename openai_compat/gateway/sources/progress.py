"""Progress of pulls for people: bars on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from openai_compat.gateway.sources.types import Stage, Step

LINE_INTERVAL = 5.0
WORDS: dict[Stage, str] = {
    "waiting": "waits for another pull of this model",
    "resolving": "is looked up",
    "downloading": "downloading",
    "extracting": "unpacking",
    "checking": "is checked",
    "converting": "converting to safetensors, this may take minutes",
    "placed": "is ready",
}


class PullProgress:
    """A report for ``ModelStore.pull``; a context manager, since bars have to be put away."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(compact=True))
        self._bars = Progress(TextColumn("{task.description}", markup=False), *columns, console=self._console, transient=True)
        self._bar: tuple[tuple[str, Stage, str], TaskID] | None = None
        self._last_line = 0.0
        self._said: tuple[str, Stage] | None = None

    def __enter__(self) -> PullProgress:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def __call__(self, step: Step) -> None:
        if self._console.is_terminal and step.stage in ("downloading", "extracting", "converting"):
            self._draw(step)
        else:
            self._say(step)

    def _draw(self, step: Step) -> None:
        key = (step.model, step.stage, step.file)
        total = step.total or None
        if self._bar is None or self._bar[0] != key:
            self._put_away()
            description = f"{step.model}: {WORDS[step.stage]} {step.file}"
            self._bar = (key, self._bars.add_task(description, total=total))
        self._bars.update(self._bar[1], completed=step.done, total=total)

    def _say(self, step: Step) -> None:
        self._put_away()
        now = time.monotonic()
        if self._said == (step.model, step.stage) and now - self._last_line < LINE_INTERVAL:
            return
        self._said, self._last_line = (step.model, step.stage), now
        share = f" {step.file}, {step.done * 100 // step.total} % of {step.total / 1e6:.0f} MB" if step.total else ""
        self._console.print(f"{step.model}: {WORDS[step.stage]}{share}", highlight=False, markup=False, soft_wrap=True)

    def _put_away(self) -> None:
        if self._bar is not None:
            self._bars.remove_task(self._bar[1])
            self._bar = None
