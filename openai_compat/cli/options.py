"""What all commands share: common options, and errors that a person can mend as one line and an exit status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Configuration; else $OPENAI_COMPAT_CONFIG or the user's own."),
]
JSONOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
BAD_CONFIGURATION = 2
FAILED = 1


@contextmanager
def clear_errors() -> Iterator[None]:
    """What a person can mend is one line and an exit status, never a traceback."""
    from openai_compat.errors import APIError
    from openai_compat.http.server import ListenError
    from openai_compat.settings import ConfigError

    try:
        yield
    except ConfigError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(BAD_CONFIGURATION) from None
    except (ListenError, APIError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(FAILED) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        typer.echo(f"error: {where}{(error.strerror or 'the system refused').lower()}", err=True)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
