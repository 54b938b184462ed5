"""What the command line asks about upstreams: whether each has what it needs, and, if it is asked, what it answers.

What is found is for whoever runs the server: it names variables, files and hosts, and never a key.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from msgspec import Struct

from openai_compat.config import Config, ConfigError, Upstream
from openai_compat.gateway.listing import Listed, ListingFailed, list_models
from openai_compat.gateway.upstreams.keys import Key, KeyUnavailable
from openai_compat.gateway.upstreams.session import tls_context
from openai_compat.patterns import STAR

_MODEL = "{model}"  # in an address, which then has no list of models


class CheckedUpstream(Struct, frozen=True, kw_only=True):
    """An upstream by its name. ``missing`` are things that requests will fail for, ``doubts`` those that they may not.

    ``listed`` is how many models it lists, ``unlisted`` which of those configured it does not; both where it was asked.
    One that is not ``askable`` has no list.
    """

    name: str
    host: str
    askable: bool
    models: tuple[str, ...]
    missing: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    failure: str = ""
    listed: int | None = None
    unlisted: tuple[str, ...] = ()


def check_upstreams(config: Config, *, online: bool = False) -> tuple[CheckedUpstream, ...]:
    """Each in the order of the configuration; ``online`` asks all of them for their models, side by side."""
    lists = asyncio.run(_ask_all(config)) if online else {}
    return tuple(_check(name, upstream, lists.get(name)) for name, upstream in config.upstreams.items())


async def _ask_all(config: Config) -> dict[str, dict[str, Listed] | str]:
    asked = {name: upstream for name, upstream in config.upstreams.items() if _MODEL not in upstream.base_url}
    answers = await asyncio.gather(*(_ask(name, upstream) for name, upstream in asked.items()))
    return dict(zip(asked, answers, strict=True))


async def _ask(name: str, upstream: Upstream) -> dict[str, Listed] | str:
    """Its list, or why there is none."""
    try:
        return dict(await list_models(name, upstream))
    except ListingFailed as error:
        return str(error)


def _check(name: str, upstream: Upstream, answer: dict[str, Listed] | str | None) -> CheckedUpstream:
    listed = answer if isinstance(answer, dict) else None
    wanted = [model.name or key for key, model in upstream.models.items() if STAR not in key]
    return CheckedUpstream(
        name=name,
        host=urlsplit(upstream.base_url).netloc,
        askable=_MODEL not in upstream.base_url,
        models=tuple(upstream.models) or (STAR,),
        missing=tuple(_missing(upstream)),
        doubts=tuple(_doubts(upstream)),
        failure=answer if isinstance(answer, str) else "",
        listed=None if listed is None else len(listed),
        unlisted=() if listed is None else tuple(name for name in wanted if name not in listed),
    )


def _missing(upstream: Upstream) -> Iterator[str]:
    if upstream.api_key_env and not os.environ.get(upstream.api_key_env):
        yield f"the variable {upstream.api_key_env} with its key is not set"
    else:
        try:
            Key(upstream).headers()
        except KeyUnavailable as error:
            yield str(error)
    try:
        if upstream.ca_file:
            tls_context(upstream.ca_file)
    except ConfigError:
        yield "the certificates of its ca_file cannot be read"


def _doubts(upstream: Upstream) -> Iterator[str]:
    keyed = upstream.api_key_env or upstream.api_key_file or any(name.lower() == "authorization" for name in upstream.headers)
    parts = urlsplit(upstream.base_url)
    if keyed and parts.scheme == "http" and not _is_near(parts.hostname or ""):
        yield "its key goes over the network unencrypted: base_url begins with http://"


def _is_near(host: str) -> bool:
    """This machine, or a network of one's own: private addresses, and names without a dot or in ``.local`` and the like."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".lan", ".localhost"))
