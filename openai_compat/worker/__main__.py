"""``python -P -m openai_compat.worker``: reads a ``Launch`` as JSON from standard input and becomes that worker."""

from __future__ import annotations

import sys

import msgspec

from openai_compat.protocol import Launch
from openai_compat.worker.descriptors import close_inherited
from openai_compat.worker.process import run


def main() -> None:
    close_inherited()
    try:
        launch = msgspec.json.decode(sys.stdin.buffer.read(), type=Launch)
    except msgspec.DecodeError as error:
        sys.exit(f"standard input holds no launch order: {error}")
    run(launch)


if __name__ == "__main__":
    main()
