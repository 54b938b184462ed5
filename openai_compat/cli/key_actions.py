"""What the commands of ``openai-compat key`` do: on the file of the server with this configuration, which may run meanwhile."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import typer

from openai_compat import settings
from openai_compat.auth import hash_key
from openai_compat.cli.output import print_json, print_table
from openai_compat.errors import InvalidRequest
from openai_compat.keys.file import KeyFile, key_path
from openai_compat.keys.keeper import KeyKeeper, Made, described, described_new
from openai_compat.keys.record import StoredKey
from openai_compat.keys.secret import new_secret
from schemas.admin import CreateKey, Key, Limits, UpdateKey
from schemas.decode import invalid

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d{1,6})([smhdw])")
_EVERYTHING = 1 << 31


class Place(NamedTuple):
    """Which server's keys: its configuration, and the port where that was said on its command line."""

    config: Path | None
    port: int | None


def create(place: Place, order: CreateKey, *, as_json: bool) -> None:
    made = _run(place, lambda keys: keys.create(order))
    _print_made(made, place, as_json=as_json)


def list_keys(place: Place, *, as_json: bool) -> None:
    now = time.time()
    keys = [described(key, now) for key in _run(place, lambda keys: keys.page(after=None, limit=_EVERYTHING)).keys]
    if as_json:
        print_json(keys)
    elif keys:
        headings = ("id", "name", "status", "scopes", "models", "expires", "last used", "spent")
        print_table(headings, map(_row, keys))
    else:
        typer.echo("no keys; 'openai-compat key create' makes one", err=True)


def show(place: Place, id: str, *, as_json: bool) -> None:
    _print_key(_run(place, lambda keys: keys.get(id)), as_json=as_json)


def update(place: Place, id: str, change: UpdateKey, *, as_json: bool) -> None:
    _print_key(_run(place, lambda keys: keys.update(id, change)), as_json=as_json)


def revoke(place: Place, id: str) -> None:
    key = _run(place, lambda keys: keys.revoke(id))
    typer.echo(f"revoked {key.id}", err=True)


def rotate(place: Place, id: str, grace: str, *, as_json: bool) -> None:
    seconds = _seconds(grace)
    if seconds is None:
        raise typer.BadParameter(f"'{grace}' is no time; write 24h, 30m or 0s", param_hint="--grace")
    made = _run(place, lambda keys: keys.rotate(id, grace=seconds))
    _print_made(made, place, as_json=as_json)
    typer.echo(f"{id} goes on for {grace}", err=True)


def print_hash(*, new: bool, file: Path | None) -> None:
    if new:
        secret = new_secret()
        typer.echo(f"key, for the clients: {secret}\n")
    else:
        secret = (file.read_text() if file else sys.stdin.read()).strip()
    if not secret:
        raise typer.BadParameter("there is no key; --new makes one")
    typer.echo(f'# for the configuration:\n[auth]\nkeys = ["{hash_key(secret)}"]')


# ---------------------------------------------------------------- options


def order_of(
    *, name: str | None, scopes: list[str] | None, models: list[str] | None, expires: str | None, limits: dict[str, Any]
) -> CreateKey:
    """Raises ``InvalidRequest`` as the API does, whose bounds are these."""
    values = {
        "name": name,
        "scopes": scopes or None,
        "models": models or None,
        "expires_at": _moment(expires),
        "limits": limits,
    }
    return _converted({key: value for key, value in values.items() if value is not None}, CreateKey)


def change_of(
    *, name: str | None, scopes: list[str] | None, models: list[str] | None, expires: str | None, limits: dict[str, Any]
) -> UpdateKey:
    values = {"name": name, "scopes": scopes or None, "models": models, "limits": limits or None}
    said = {key: value for key, value in values.items() if value is not None}
    return _converted(said if expires is None else {**said, "expires_at": _moment(expires)}, UpdateKey)


def limits_of(*texts: str | None) -> dict[str, Any]:
    """By the fields of ``Limits``, in their order; those that were not named are left out."""
    named = zip(Limits.__struct_fields__, texts, strict=True)
    return {name: _amount(name, text) for name, text in named if text is not None}


def _amount(name: str, text: str) -> float | None:
    if text == "default":
        return None
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no number", param_hint="--" + name.replace("_", "-")) from None


def _converted(values: dict[str, Any], type: type[R]) -> R:
    try:
        return msgspec.convert(values, type)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from None


def _moment(text: str | None) -> int | None:
    """Unix seconds; None for never."""
    if text is None or text == "never":
        return None
    if (seconds := _seconds(text)) is not None:
        return int(time.time()) + seconds
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"'{text}' is no time: write 30d, 12h, 90m, a date such as 2027-01-31, or never.") from None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())


def _seconds(text: str) -> int | None:
    match = _DURATION.fullmatch(text)
    return int(match[1]) * _SECONDS[match[2]] if match else None


# ---------------------------------------------------------------- the file, and what is printed


def _run(place: Place, work: Callable[[KeyKeeper], Awaitable[T]]) -> T:
    """Raises ``ConfigError`` where there is no place for keys, or the file cannot be used."""
    file = KeyFile(_path(place))

    async def scenario() -> T:
        try:
            return await work(KeyKeeper(file))
        finally:
            await file.close()

    return asyncio.run(scenario())


def _path(place: Place) -> Path:
    return key_path(settings.load(place.config, os.environ, {"server.port": place.port}))


def _print_made(made: Made, place: Place, *, as_json: bool) -> None:
    """The key alone on standard output, for ``KEY=$(…)``; what is to be said of it beside that. Where it is kept tells whoever
    has asked for it as another user, or by another configuration, that the server will not know it.
    """
    new = described_new(made, time.time())
    if as_json:
        print_json(new)
        return
    typer.echo(made.secret)
    until = f", until {_date(new.expires_at)}" if new.expires_at else ""
    typer.echo(f"id {new.id}{until}; the key is not shown again", err=True)
    typer.echo(f"kept in {_path(place)}; a server of this file knows it within a second", err=True)


def _print_key(key: StoredKey, *, as_json: bool) -> None:
    shown = described(key, time.time())
    if as_json:
        print_json(shown)
        return
    limits = {name: value for name, value in msgspec.structs.asdict(shown.limits).items() if value is not None}
    rows = [*zip(("id", "name", "status", "scopes", "models", "expires", "last used", "spent"), _row(shown), strict=True)]
    rows += [("created", _date(shown.created_at)), ("revoked", _date(shown.revoked_at))]
    rows += [(name.replace("_", " "), f"{value:,}" if value else "no limit") for name, value in limits.items()]
    print_table(("", ""), rows)


def _row(key: Key) -> tuple[str, ...]:
    models = ", ".join(key.models) or "all"
    dates = (_date(key.expires_at), _date(key.last_used_at))
    return (key.id, key.name, key.status, ", ".join(key.scopes), models, *dates, f"{key.spent:g}")


def _date(seconds: int | None) -> str:
    return "-" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
