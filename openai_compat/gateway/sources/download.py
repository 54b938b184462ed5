"""Fetch one file over HTTP into its place, going on where an earlier try was cut off, also by a kill of the process.

The bytes so far stand in ``<target>.part``. The hub's own client keeps an interrupted file under a random name and begins
again, which for gigabytes is not good enough; so bytes of every source come through here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from openai_compat.gateway.sources.types import AccessRefused, PullFailed, Remote

if TYPE_CHECKING:
    import httpx2

CHUNK = 2**20
TRIES = 5
FIRST_PAUSE = 0.5
CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 30.0
_REFUSED = (401, 403, 407)
_PASSING = (408, 425, 429)

Tell = Callable[[int, int], None]


class _Broken(Exception):
    """The transfer stopped early; another try may go on from there."""


def download(remote: Remote, target: Path, tell: Tell) -> None:
    """Bring ``remote`` to ``target``, whole and with the right hash. ``tell`` gets bytes done and in all (0: not known).

    Raises ``AccessRefused`` on 401, 403 and 407, else ``PullFailed``.
    """
    if target.exists():
        return
    part = target.with_name(target.name + ".part")
    fresh = not part.exists()
    _fetch(remote, part, tell)
    if not matches(remote, part) and not fresh:
        part.unlink()
        _fetch(remote, part, tell)
    if not matches(remote, part):
        part.unlink()
        raise PullFailed(f"{remote.name}: the file that came is not the expected one (its hash differs).")
    sync(part)
    part.rename(target)


def _fetch(remote: Remote, part: Path, tell: Tell) -> None:
    """Go on until ``part`` is complete; ``TRIES`` in a row without a new byte end it."""
    failures = 0
    with _client() as client:
        while True:
            before = part.stat().st_size if part.exists() else 0
            if remote.size is not None and before == remote.size:
                tell(before, before)
                return
            try:
                _transfer(client, remote, part, tell)
                return
            except _Broken as broken:
                grew = part.exists() and part.stat().st_size > before
                failures = 0 if grew else failures + 1
                if failures >= TRIES:
                    raise PullFailed(f"{remote.name}: the transfer broke off: {broken}. Run it again to go on.") from broken
                time.sleep(FIRST_PAUSE * 2**failures)


def _transfer(client: httpx2.Client, remote: Remote, part: Path, tell: Tell) -> None:
    """One request for what is still missing. Raises ``_Broken`` where a further one may help."""
    import httpx2

    have = part.stat().st_size if part.exists() else 0
    if remote.size is not None and have > remote.size:
        have = 0
    headers = {**remote.headers, "accept-encoding": "identity"} | ({"range": f"bytes={have}-"} if have else {})
    try:
        with client.stream("GET", remote.url, headers=headers) as response:
            begin = _begin(response, remote, have, part)
            total = remote.size or begin + int(response.headers.get("content-length") or 0)
            _check_room(part, total - begin, remote)
            done = _write(response, part, begin, total, tell)
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.TooManyRedirects) as error:
        raise PullFailed(f"{remote.name}: its address cannot be used.") from error
    except httpx2.HTTPError as error:
        raise _Broken(type(error).__name__) from error
    if remote.size is not None and done != remote.size:
        raise _Broken(f"{done} of {remote.size} bytes came")


def _begin(response: httpx2.Response, remote: Remote, have: int, part: Path) -> int:
    """The offset at which the answer's bytes belong. Raises by status."""
    status = response.status_code
    if status == 206 and response.headers.get("content-range", "").startswith(f"bytes {have}-"):
        return have
    if status == 200:
        return 0
    if status in (206, 416):
        part.unlink(missing_ok=True)
        raise _Broken("the server and this machine disagree on the bytes so far")
    if status in _REFUSED:
        raise AccessRefused(f"{remote.name}: access was refused (HTTP {status}).")
    if status >= 500 or status in _PASSING:
        raise _Broken(f"HTTP {status}")
    raise PullFailed(f"{remote.name}: the server answered HTTP {status}.")


def _write(response: httpx2.Response, part: Path, begin: int, total: int, tell: Tell) -> int:
    done = begin
    try:
        with part.open("r+b" if part.exists() else "wb") as file:
            file.truncate(begin)
            file.seek(begin)
            tell(done, total)
            for chunk in response.iter_raw():
                file.write(chunk)
                done += len(chunk)
                tell(done, total)
                if done > total > 0:
                    raise PullFailed(f"{part.stem}: the server sends more than the {total} bytes announced.")
    except OSError as error:
        raise PullFailed(f"{part.stem}: cannot be written: {error.strerror}.") from error
    return done


def _check_room(part: Path, need: int, remote: Remote) -> None:
    free = shutil.disk_usage(part.parent).free
    if need > free:
        raise PullFailed(f"{remote.name}: {need} bytes are still to come, and the disk has {free} free.")


@contextmanager
def _client() -> Iterator[httpx2.Client]:
    """Redirects are followed; credentials do not travel to another host. ``PIP_CERT`` adds an authority, as it does for pip."""
    import httpx2

    context = ssl.create_default_context()
    if cert := os.environ.get("PIP_CERT"):
        context.load_verify_locations(cert)
    timeout = httpx2.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT)
    with httpx2.Client(follow_redirects=True, timeout=timeout, verify=context) as client:
        yield client


def matches(remote: Remote, path: Path) -> bool:
    """Whether the file's hash is the one known; True where none is."""
    if remote.sha256 is not None:
        return file_hash(path) == remote.sha256
    if remote.git_sha1 is not None:
        blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        return file_hash(path, blob) == remote.git_sha1
    return True


def file_hash(path: Path, digest: hashlib._Hash | None = None) -> str:
    """Hexadecimal hash of a file's bytes, added to ``digest`` (else a new sha256)."""
    digest = digest or hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Have the bytes of a file, or the entries of a folder, on disk before anything relies on them."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
