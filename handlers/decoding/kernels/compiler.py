"""Builds the native kernels for this very processor, once, into the user's cache."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path

FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared", "-pthread")
NEEDED = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "f16c", "fma"})
COMPILERS = ("c++", "g++", "clang++")
SECONDS = 300
"""The packaged compiler builds its own C++ library first: 50 s on a core at 2.6 GHz, where others take 5."""
Compiler = tuple[str, ...]


class NotBuilt(Exception):
    """There are no kernels here; the message says why, in words for the log."""


def library(folder: Path | None = None) -> Path:
    """The compiled library, built first if need be. Raises ``NotBuilt``.

    Args:
        folder: where libraries are kept; the user's cache if None.
    """
    flags, compiler = check()
    try:
        target = _usable(folder) / f"{_key(compiler, flags)}.so"
        if not target.exists():
            _build(compiler, target)
        _check_owner(target)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotBuilt(f"compiling them failed ({type(error).__name__})") from error
    return target


def check() -> tuple[frozenset[str], Compiler]:
    """The processor's features, and the compiler. Raises ``NotBuilt`` where they do not suffice, without building anything."""
    flags = _processor_flags()
    if missing := NEEDED - flags:
        raise NotBuilt(f"the processor lacks {', '.join(sorted(missing))}")
    return flags, _compiler()


def _processor_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    found = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(found.partition(":")[2].split())


def _compiler() -> Compiler:
    """The machine's own, else the one of the package ``ziglang``, which the extra ``compiler`` installs."""
    wanted = os.environ.get("CXX")
    for name in (wanted,) if wanted else COMPILERS:
        if found := shutil.which(name):
            return (found,)
    if not wanted and find_spec("ziglang") is not None:
        return (sys.executable, "-P", "-m", "ziglang", "c++")
    raise NotBuilt("there is no C++ compiler; `pip install 'openai-compat[compiler]'` brings one")


def _usable(folder: Path | None) -> Path:
    """``folder``, else the user's cache, else a folder for temporary files where no home may be written, as in containers."""
    try:
        return _private(folder or _cache())
    except OSError:
        if folder is not None:
            raise
    return _private(Path(tempfile.gettempdir()) / f"openai-compat-kernels-{os.getuid()}")


def _cache() -> Path:
    """Raises ``FileNotFoundError`` where the user has no home."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser() / "openai-compat" / "kernels"
    except RuntimeError as error:
        raise FileNotFoundError(base) from error


def _key(compiler: Compiler, flags: frozenset[str]) -> str:
    """Names everything that the library depends on, so that a changed one is built anew."""
    version = subprocess.run((*compiler, "--version"), capture_output=True, check=True, timeout=SECONDS).stdout  # noqa: S603
    digest = hashlib.sha256(version)
    for part in (platform.machine(), *FLAGS, *sorted(flags)):
        digest.update(part.encode() + b"\0")
    for source in sorted((files(__package__) / "source").iterdir(), key=lambda entry: entry.name):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:32]


def _build(compiler: Compiler, target: Path) -> None:
    """Appears whole or not at all, however many processes build at once."""
    with as_file(files(__package__) / "source") as source, tempfile.TemporaryDirectory(dir=target.parent) as name:
        made = Path(name) / "made.so"
        command = (*compiler, *FLAGS, str(source / "api.cpp"), "-o", str(made))
        scratch = {"ZIG_GLOBAL_CACHE_DIR": name, "ZIG_LOCAL_CACHE_DIR": name}
        subprocess.run(  # noqa: S603
            command, capture_output=True, check=True, timeout=SECONDS, stdin=subprocess.DEVNULL, env={**os.environ, **scratch}
        )
        made.rename(target)


def _private(folder: Path) -> Path:
    """The folder, made if need be. Raises ``OSError`` where others may write it, or nobody may."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_owner(folder)
    with tempfile.TemporaryFile(dir=folder):
        return folder


def _check_owner(path: Path) -> None:
    """Code of another user is never loaded, nor what another's link leads to."""
    status = path.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(f"{path.name} may be written by others")
