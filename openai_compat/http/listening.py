"""Addresses that are listened on: TCP, and sockets in the file system."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

BACKLOG = 2048
UNIX = "unix:"
UNREAD = 30
"""Seconds that sent bytes may wait for a client."""
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_TRIAL = 2.0  # seconds in which a server that lives takes a connection


class ListenError(Exception):
    """The address cannot be listened on; the message is one line for the person who started the server."""


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen. Port 0 takes any free one. Raises ``ListenError``."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError):
        raise ListenError(f"Cannot listen on '{host}': there is no such host name or address.") from None
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _forsake_the_silent(listener)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(_reason(error, host, port)) from None
    return listener


def _forsake_the_silent(listener: socket.socket) -> None:
    """Let the system break each connection whose client has taken nothing for so long of what it was sent: megabytes wait in
    the system before any does here. Linux only.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None:
        listener.setsockopt(socket.IPPROTO_TCP, option, UNREAD * 1000)


def listen_at(address: str) -> socket.socket:
    """``host:port``, or ``unix:/path``. Raises ``ListenError``."""
    if address.startswith(UNIX):
        return listen_unix(Path(address.removeprefix(UNIX)))
    host, _, port = address.rpartition(":")
    return listen(host.removeprefix("[").removesuffix("]"), int(port))


def listen_unix(path: Path) -> socket.socket:
    """Listen on a socket that only this user can open; one that a dead server has left is replaced. Raises ``ListenError``."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _check_folder(path.parent)
        _clear(path)
        listener.bind(str(path))
        path.chmod(0o600)  # nobody is let in before it listens
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(f"Cannot listen on {path}: {(error.strerror or str(error)).lower()}.") from None
    except BaseException:
        listener.close()
        raise
    return listener


def clear_away(address: str) -> None:
    """Remove the file of a Unix socket that is closed, unless another server listens there by now."""
    if address.startswith(UNIX):
        with suppress(OSError, ListenError):
            _clear(Path(address.removeprefix(UNIX)))


def _check_folder(folder: Path) -> None:
    """Whoever may write there could put another socket in the place of ours."""
    if folder.stat().st_mode & stat.S_IWOTH:
        raise ListenError(f"The folder {folder} can be written by everybody: put the socket into one that cannot.")


def _clear(path: Path) -> None:
    """Remove what is in the way, if it is ours and dead."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise ListenError(f"There is something else at {path}, which is not replaced: it is no socket, or another user's.")
    if _answers(path):
        raise ListenError(f"Another server listens on {path}.")
    path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_TRIAL)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # it may be too busy to answer, but it is there
            return True
    return True


def base_url(listener: socket.socket, *, scheme: str = "http") -> str:
    """Where a client on this machine finds the API."""
    host, port = listener.getsockname()[:2]
    return url_of(host, port, scheme=scheme)


def url_of(host: str, port: int, *, scheme: str = "http") -> str:
    """The API's address on a server that listens on ``host``; "all addresses" is this machine's own."""
    host = _WILDCARDS.get(host, host)
    return f"{scheme}://[{host}]:{port}/v1" if ":" in host else f"{scheme}://{host}:{port}/v1"


def _reason(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use. Choose another with --port or PORT."
    if error.errno == errno.EACCES:
        return f"Port {port} may not be listened on by this user. Choose one above 1023."
    return f"Cannot listen on {host}, port {port}: {os.strerror(error.errno or 0).lower()}."
