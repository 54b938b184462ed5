"""How many files and connections this process may have open."""

from __future__ import annotations

import sys

_OTHERS = 256  # listeners, workers' sockets, files, and what is on its way in or out


def allow(connections: int) -> str:
    """Let the process have ``connections`` clients, each with a connection onwards; why that cannot be, or nothing."""
    if sys.platform == "win32":
        return ""
    import resource

    wanted = 2 * connections + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return ""
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    except (OSError, ValueError):  # some systems have a lower limit of their own
        most = soft
    if most >= wanted:
        return ""
    return f"{connections} connections (server.max_connections) need {wanted} open files, and this process may have {most}"
