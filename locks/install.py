"""Installs the project and what it needs, every file checked by its sha256, into the Python that runs this.

    python locks/install.py [--editable] [--only] EXTRA...

Nothing but the project's own build runs while installing: no source distributions, nothing fetched that the lock does not name.
torch is its CPU build where an index that pip is configured with has that, else the public index's, with what that needs of
CUDA on Linux. ``--only`` leaves the project and the server's packages alone and installs only what the extras need.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-deps")


def main(words: list[str]) -> None:
    extras = [word for word in words if not word.startswith("--")]
    if "--only" in words:
        return must(take(*extras))
    must(take("server", *extras))
    if take("torch-cpu", quiet=True):
        must(take("torch"))
        must(take("cuda"))
    return must(build(editable="--editable" in words))


def take(*names: str, quiet: bool = False) -> int:
    files = [word for name in names for word in ("-r", str(HERE / f"{name}.txt"))]
    return run("--require-hashes", "--only-binary", ":all:", *files, quiet=quiet)


def build(*, editable: bool) -> int:
    """The project, with the build tool that the lock has put beside it: pip would fetch one of its own choice, unchecked."""
    return run("--no-build-isolation", *(["--editable"] if editable else []), str(HERE.parent))


def run(*words: str, quiet: bool = False) -> int:
    # setuptools warns of every editable installation
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}
    said = subprocess.DEVNULL if quiet else None
    return subprocess.run((*PIP, *words), env=env, stderr=said).returncode  # noqa: S603 -- our own words


def must(status: int) -> None:
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
