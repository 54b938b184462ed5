"""Files and connections that a new process of ours must not keep."""

from __future__ import annotations

import os
from contextlib import suppress

_FIRST_OF_OURS = 3


def close_inherited() -> None:
    """Close everything but the three standard streams; for the very start of a process, before it has opened anything.

    uvloop hands its copies of a child's pipes to that child. In a fork server every worker would inherit them: the gateway
    would not see the server's death while a worker lives, and a worker could read the orders for others.
    """
    for name in os.listdir("/dev/fd"):
        if int(name) >= _FIRST_OF_OURS:
            with suppress(OSError):
                os.close(int(name))
