"""``openai-compat key``: its commands and their options; ``key_actions`` does what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openai_compat.cli.options import ConfigOption, JSONOption, clear_errors

app = typer.Typer(
    help="Make, list, change and revoke API keys, whether the server runs or not.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
PortOption = Annotated[
    int | None, typer.Option(help="The server's port, where it was started with --port and has no storage.dir.")
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as 'key list' shows it.")]
NameOption = Annotated[str | None, typer.Option(help="What to call it: whose it is, or what for.")]
ScopeOption = Annotated[
    list[str] | None,
    typer.Option(
        help="What it is for, once for each: chat, embeddings, images, audio, videos, vision, models, usage (all of these if "
        "none is named), and events, metrics, admin."
    ),
]
ModelOption = Annotated[
    list[str] | None, typer.Option(help="A model that it may use, with one * at most, once for each; all if none is named.")
]
ExpiresOption = Annotated[
    str | None, typer.Option(metavar="WHEN", help="30d, 12h, 90m, a date such as 2027-01-31 (UTC), or never.")
]
_LIMIT = "0 is no limit, 'default' the server's."
RequestsPerMinute = Annotated[str | None, typer.Option(metavar="N", help=_LIMIT)]
TokensPerMinute = Annotated[str | None, typer.Option(metavar="N", help=_LIMIT)]
TokensPerDay = Annotated[str | None, typer.Option(metavar="N", help=_LIMIT)]
CostPerDay = Annotated[str | None, typer.Option(metavar="AMOUNT", help=f"In the currency of the prices. {_LIMIT}")]
Concurrent = Annotated[str | None, typer.Option(metavar="N", help=f"Requests at the same time. {_LIMIT}")]
Budget = Annotated[str | None, typer.Option(metavar="AMOUNT", help="All that it may ever cost. 0 or 'default' is no limit.")]


@app.command()
def create(
    name: NameOption = None,
    scope: ScopeOption = None,
    model: ModelOption = None,
    expires: ExpiresOption = None,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    tokens_per_day: TokensPerDay = None,
    cost_per_day: CostPerDay = None,
    concurrent_requests: Concurrent = None,
    budget: Budget = None,
    config: ConfigOption = None,
    port: PortOption = None,
    as_json: JSONOption = False,
) -> None:
    """Make a key, and print it: it is shown this once. A server that runs knows it within a second."""
    with clear_errors():
        from openai_compat.cli import key_actions as act

        limits = act.limits_of(
            requests_per_minute, tokens_per_minute, tokens_per_day, cost_per_day, concurrent_requests, budget
        )
        order = act.order_of(name=name, scopes=scope, models=model, expires=expires, limits=limits)
        act.create(act.Place(config, port), order, as_json=as_json)


@app.command("list")
def list_keys(config: ConfigOption = None, port: PortOption = None, as_json: JSONOption = False) -> None:
    """List all keys that were made with 'key create' or by operators; revoked and expired ones, too."""
    with clear_errors():
        from openai_compat.cli import key_actions as act

        act.list_keys(act.Place(config, port), as_json=as_json)


@app.command()
def show(id: IdArgument, config: ConfigOption = None, port: PortOption = None, as_json: JSONOption = False) -> None:
    """Tell what a key may do, when it was last used, and what it has cost."""
    with clear_errors():
        from openai_compat.cli import key_actions as act

        act.show(act.Place(config, port), id, as_json=as_json)


@app.command()
def update(
    id: IdArgument,
    name: NameOption = None,
    scope: ScopeOption = None,
    model: ModelOption = None,
    all_models: Annotated[bool, typer.Option("--all-models", help="Let it use every model.")] = False,
    expires: ExpiresOption = None,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    tokens_per_day: TokensPerDay = None,
    cost_per_day: CostPerDay = None,
    concurrent_requests: Concurrent = None,
    budget: Budget = None,
    config: ConfigOption = None,
    port: PortOption = None,
    as_json: JSONOption = False,
) -> None:
    """Change what a key may do. What is not named stays; scopes and models that are named take the place of the old ones."""
    if all_models and model:
        raise typer.BadParameter("--all-models and --model exclude each other")
    with clear_errors():
        from openai_compat.cli import key_actions as act

        limits = act.limits_of(
            requests_per_minute, tokens_per_minute, tokens_per_day, cost_per_day, concurrent_requests, budget
        )
        models = [] if all_models else model
        change = act.change_of(name=name, scopes=scope, models=models, expires=expires, limits=limits)
        act.update(act.Place(config, port), id, change, as_json=as_json)


@app.command()
def revoke(id: IdArgument, config: ConfigOption = None, port: PortOption = None) -> None:
    """Revoke a key, for good. A server that runs refuses it within a second."""
    with clear_errors():
        from openai_compat.cli import key_actions as act

        act.revoke(act.Place(config, port), id)


@app.command()
def rotate(
    id: IdArgument,
    grace: Annotated[str, typer.Option(metavar="TIME", help="How long the old one goes on: 24h, 30m, 0s.")] = "24h",
    config: ConfigOption = None,
    port: PortOption = None,
    as_json: JSONOption = False,
) -> None:
    """Make a new key with the same rights, and let the old one end. The new one has an id of its own."""
    with clear_errors():
        from openai_compat.cli import key_actions as act

        act.rotate(act.Place(config, port), id, grace, as_json=as_json)


@app.command("hash")
def hash_key(
    new: Annotated[bool, typer.Option("--new", help="Make the key, too, and print it.")] = False,
    file: Annotated[Path | None, typer.Option(help="Where the key is; standard input if this is not said.")] = None,
) -> None:
    """Print the configuration's lines for a key that is to stand there and not in the store."""
    with clear_errors():
        from openai_compat.cli import key_actions as act

        act.print_hash(new=new, file=file)
