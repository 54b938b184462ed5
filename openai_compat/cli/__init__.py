"""The command ``openai-compat``. Each command imports what it needs when it runs, so that ``--help`` answers at once."""

from __future__ import annotations


def main() -> None:
    from openai_compat.cli.commands import app

    app(prog_name="openai-compat")
