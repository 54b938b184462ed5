"""Making the file of keys."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_ROOT = 0


def make_file(path: Path) -> None:
    """Make ``path`` and the folders that lead to it, where they are not there, for whoever has the folder that they are in:
    root makes keys for servers of other users, which could not open what is root's. Raises ``OSError``.

    Each step goes on from the folder before, so that nobody can put another one in its place meanwhile.
    """
    if path.exists():
        return
    missing = [path.parent]
    while not missing[-1].exists():
        missing.append(missing[-1].parent)
    with contextlib.ExitStack() as stack:
        place = os.open(missing.pop(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, place)
        owner = os.fstat(place)
        while missing:
            place = _folder(missing.pop().name, place, owner, mode=0o777 if missing else 0o700)
            stack.callback(os.close, place)
        # Never opened where it is there: closing it would take the locks away that another connection of this process has.
        with contextlib.suppress(FileExistsError):
            file = os.open(path.name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=place)
            stack.callback(os.close, file)
            _give(file, owner)


def _folder(name: str, place: int, owner: os.stat_result, *, mode: int) -> int:
    """A folder in ``place``, open; made, and given away, unless another process was faster."""
    made = True
    try:
        os.mkdir(name, mode, dir_fd=place)
    except FileExistsError:
        made = False
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
    if made:
        _give(folder, owner)
    return folder


def _give(descriptor: int, owner: os.stat_result) -> None:
    if os.geteuid() == _ROOT != owner.st_uid:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
