"""The cache of fetched models: a folder a snapshot, placed by one rename, with a manifest beside the model's files::

snapshots/<key>/manifest.json, model/…   whole and final; a folder here is never half there
downloads/<key>/…                        wheels and files on their way, kept across a kill; the stage is made anew each try
locks/<key>                              held (flock, freed with its process) while one process pulls this snapshot
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from openai_compat.config import ConfigError, File, Model
from openai_compat.gateway.sources.download import file_hash, sync
from openai_compat.gateway.sources.types import LocalSource, Manifest, Placed, PullFailed, parse_source

LAYOUT = 1
LOCK_PAUSE = 0.2
MODEL = "model"
MANIFEST = "manifest.json"


class Snapshot:
    """The places of one snapshot in the cache."""

    def __init__(self, root: Path, key: str) -> None:
        self.key = key
        self.final = root / "snapshots" / key
        self.model = self.final / MODEL
        self.downloads = root / "downloads" / key
        self._lock = root / "locks" / key

    def manifest(self) -> Manifest | None:
        """What is placed; None where nothing is, or where it lacks a file or has one of another size."""
        try:
            manifest = msgspec.json.decode((self.final / MANIFEST).read_bytes(), type=Manifest)
        except (OSError, msgspec.DecodeError):
            return None
        whole = all(_size(self.model / file.name) == file.size for file in manifest.files)
        return manifest if whole else None

    @contextmanager
    def locked(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Keep other processes from pulling this snapshot; ``waiting`` is called once where one already does."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("w") as file:
            told = False
            while not _try_lock(file.fileno()):
                if not told:
                    waiting()
                    told = True
                time.sleep(LOCK_PAUSE)
            yield

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """An empty folder on the cache's file system; stages that a killed process left behind are removed."""
        self.downloads.mkdir(parents=True, exist_ok=True)
        for old in self.downloads.glob("stage-*"):
            shutil.rmtree(old)
        stage = Path(tempfile.mkdtemp(prefix="stage-", dir=self.downloads))
        try:
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def place(self, stage: Path, source: str, resolved: str, origin: tuple[Placed, ...] = ()) -> Manifest:
        """Make ``stage`` (which holds ``model/``) the snapshot: everything on disk first, then one rename."""
        files = tuple(describe_files(stage / MODEL))
        manifest = Manifest(source=source, resolved=resolved, placed=int(time.time()), files=files, origin=origin)
        (stage / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
        _settle(stage)
        self.final.parent.mkdir(parents=True, exist_ok=True)
        if self.final.exists():
            shutil.rmtree(self.final)
        stage.rename(self.final)
        sync(self.final.parent)
        return manifest

    def discard_downloads(self) -> None:
        """Remove what is of no use once the snapshot is placed."""
        shutil.rmtree(self.downloads, ignore_errors=True)


def snapshot_of(root: Path, model: Model) -> Snapshot:
    """The place of a model's snapshot: its name can be read, its digest tells sources, files and layouts apart."""
    source = parse_source(model.source)
    identity: object = model.source
    readable = model.source.partition(":")[2]
    if isinstance(source, LocalSource):
        readable = Path(source.path).name
        identity = _file_identity(Path(source.path))
    files = [_wanted(file) for file in model.files]
    digest = hashlib.sha256(msgspec.json.encode((LAYOUT, identity, files))).hexdigest()[:12]
    slug = re.sub(r"[^A-Za-z0-9.=@-]+", "--", readable)[:80].strip(".-")
    return Snapshot(root, f"{slug}-{digest}")


def describe_files(folder: Path) -> Iterator[Placed]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield Placed(name=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=file_hash(path))


def _wanted(file: File) -> dict[str, str] | File:
    """As it always was for a plain file, so that a new version of the server fetches nothing again."""
    return file if file.parts or file.source else {"path": file.path, "sha256": file.sha256, "name": file.name}


def _file_identity(path: Path) -> tuple[str, int, int]:
    """A local file's conversion is made again when the file has changed."""
    try:
        state = path.stat()
    except OSError as error:
        raise PullFailed(f"{path.name} does not exist.") from error
    return str(path), state.st_size, state.st_mtime_ns


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _settle(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        sync(path)


def cache_root(configured: str) -> Path:
    """Where models are kept: the setting, else ``OPENAI_COMPAT_CACHE_DIR``, else a folder in the user's cache.

    Raises ``ConfigError`` where there is no home to have one in.
    """
    chosen = configured or os.environ.get("OPENAI_COMPAT_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser().absolute() / "openai-compat"
    except RuntimeError as error:
        raise ConfigError("there is no home to keep models in: set server.cache_dir or OPENAI_COMPAT_CACHE_DIR") from error
