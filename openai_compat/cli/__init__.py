"""The command ``openai-compat``. Each command imports what it needs when it runs, so that ``--help`` answers at once."""

from __future__ import annotations

import io
import sys


def main() -> None:
    from openai_compat.cli.commands import app

    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a model's name, or a letter of its answer, shows the letter's number.
        sys.stdout.reconfigure(errors="backslashreplace")
    app(prog_name="openai-compat")
