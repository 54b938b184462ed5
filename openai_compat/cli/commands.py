"""Commands and their options; what they do is in the module of the same name."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import typer

from openai_compat.cli import keys
from openai_compat.cli.options import FAILED, ConfigOption, JSONOption, clear_errors

app = typer.Typer(
    help="One server that makes any model speak the OpenAI API.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(keys.app, name="key")


@app.command()
def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; others than this machine's need an API key.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes any that is free.")] = None,
    pull: Annotated[bool, typer.Option(help="Fetch the models that are not here yet before starting.")] = True,
    inline: Annotated[bool | None, typer.Option(help="Run models in this process: for tests and debugging.")] = None,
    log_format: Annotated[Literal["text", "json"] | None, typer.Option(help="How log lines look.")] = None,
    log_level: Annotated[Literal["debug", "info", "warning", "error"] | None, typer.Option(help="What is logged.")] = None,
    private: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Start the server."""
    import os

    # What 'chat' starts for itself leaves addresses and certificates to the server whose configuration it shares.
    flags: dict[str, object] = dict.fromkeys(("admin.listen", "server.tls_cert", "server.tls_key"), "") if private else {}
    flags |= {
        "server.host": host,
        "server.port": port,
        "server.inline": inline,
        "server.log_format": log_format,
        "server.log_level": log_level,
    }
    with clear_errors():
        from openai_compat import settings
        from openai_compat.cli.serve import serve

        # The file that is found now is read again later, and no other: without it there may be no keys.
        read = partial(settings.load, settings.find_file(config, os.environ), os.environ, flags)
        serve(read(), pull=pull, read=read)


@app.command()
def check(
    config: ConfigOption = None,
    hashes: Annotated[bool, typer.Option("--hashes", help="Read every byte of pulled files again.")] = False,
    online: Annotated[bool, typer.Option("--online", help="Ask each upstream for its models.")] = False,
    as_json: JSONOption = False,
) -> None:
    """Validate the configuration, each model's files and each upstream's key, without loading anything."""
    import os

    with clear_errors():
        from openai_compat import settings
        from openai_compat.cli.models import check

        if not check(settings.load(config, os.environ), hashes=hashes, online=online, as_json=as_json):
            raise typer.Exit(FAILED)


@app.command()
def pull(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Ids; all that are configured if none.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Fetch the models' files; a pull that was cut off goes on where it was."""
    import os

    with clear_errors():
        from openai_compat import settings
        from openai_compat.cli.pull import pull

        if not pull(settings.load(config, os.environ), tuple(models or ())):
            raise typer.Exit(FAILED)


@app.command()
def models(config: ConfigOption = None, as_json: JSONOption = False) -> None:
    """List the configured models."""
    import os

    with clear_errors():
        from openai_compat import settings
        from openai_compat.cli.models import list_models

        list_models(settings.load(config, os.environ), as_json=as_json)


@app.command()
def analyze(
    model: Annotated[str, typer.Argument(help="The id of a configured model, or a folder or GGUF file.")],
    config: ConfigOption = None,
    as_json: JSONOption = False,
) -> None:
    """Tell what a model is and needs, from its files' headers."""
    import os

    with clear_errors():
        from openai_compat import settings
        from openai_compat.cli.models import analyze

        analyze(settings.load(config, os.environ), model, as_json=as_json)


@app.command()
def chat(
    model: Annotated[str | None, typer.Argument(help="The model to talk to; the first if none is named.")] = None,
    config: ConfigOption = None,
    url: Annotated[str | None, typer.Option(help="A running server, such as http://127.0.0.1:8000/v1.")] = None,
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
) -> None:
    """Chat with a model in the terminal; starts a server for it if none is running."""
    import os

    with clear_errors():
        from openai_compat import settings
        from openai_compat.cli.chat import chat

        chat(settings.load(config, os.environ), config, model=model, url=url, system=system)


@app.command()
def version() -> None:
    """Print the version."""
    _print_version(True)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("openai-compat"))
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)] = False,
) -> None:
    """One server that makes any model speak the OpenAI API."""
