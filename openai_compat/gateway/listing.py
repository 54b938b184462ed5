"""Asking an upstream, through the openai SDK, which models it has. Nothing said here names an address or a key."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from openai_compat.config import ConfigError, Upstream
from openai_compat.gateway.upstreams.failures import distrust
from openai_compat.gateway.upstreams.keys import Key, KeyUnavailable
from openai_compat.gateway.upstreams.session import tls_context

if TYPE_CHECKING:
    from openai import AsyncOpenAI

MAX_MODELS = 10_000
MAX_NAME = 256
MAX_WORDS = 64
_MAX_BYTES = 16 * 2**20
_LONGEST_WAIT = 30.0
_RETRIES = 1
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,39}")


class ListingFailed(Exception):
    """Why there is no list, in words for whoever runs the server."""


class Listed(Struct, frozen=True, kw_only=True):
    """What an upstream says of one of its models: nothing but its name, as a rule. ``capabilities`` are verbs."""

    created: int = 0
    capabilities: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    context_length: int | None = None


async def list_models(name: str, upstream: Upstream) -> Mapping[str, Listed]:
    """The models by the names that the upstream uses, in its order. Raises ``ListingFailed``."""
    # About a second of imports, which the event loop is not kept waiting for.
    openai = await asyncio.to_thread(import_module, "openai")
    httpx = import_module("httpx2")  # what the SDK sends with, whose errors come through it while a body is read
    try:
        async with asyncio.timeout(2 * _wait(upstream)), _client(openai, upstream) as client:
            return models_of(await _page(client, _headers(openai, upstream)))
    except ConfigError:
        raise ListingFailed("the certificates of its ca_file cannot be read") from None
    except TimeoutError:
        raise ListingFailed("it did not answer in time") from None
    except openai.APITimeoutError:
        raise ListingFailed("it did not answer in time") from None
    except openai.APIStatusError as error:
        raise ListingFailed(f"it answered with status {error.status_code}") from None
    except openai.APIConnectionError as error:
        raise ListingFailed(_unreached(error)) from None
    except (openai.OpenAIError, httpx.HTTPError) as error:
        raise ListingFailed(f"its answer could not be read ({type(error).__name__})") from None


def _unreached(error: BaseException | None) -> str:
    """By what the SDK's error, which says nothing, was made of."""
    while error is not None:
        match error:
            case ssl.SSLCertVerificationError():
                return f"its certificate is not trusted: {distrust(error)}"
            case ssl.SSLError():
                return "no TLS with it"
            case socket.gaierror():
                return "its host's name has no address"
        error = error.__cause__ or error.__context__
    return "it could not be reached"


def models_of(page: bytes) -> Mapping[str, Listed]:
    """OpenAI's list, or what others take for one: a bare list, or one under ``models``. Raises ``ListingFailed``."""
    try:
        entries = msgspec.json.decode(page)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ListingFailed("its answer is no JSON") from None
    if isinstance(entries, dict):
        entries = entries.get("data") if entries.get("data") is not None else entries.get("models")
    if not isinstance(entries, list):
        raise ListingFailed("its answer is no list of models")
    named = ((_text(entry.get("id")) or _text(entry.get("name")), entry) for entry in entries if isinstance(entry, dict))
    return dict([(name, _listed(entry)) for name, entry in named if name][:MAX_MODELS])


def _listed(entry: Mapping[str, Any]) -> Listed:
    """Our own servers say all of it, vLLM and others call the context differently."""
    lengths = (entry.get(name) for name in ("context_length", "max_model_len", "context_window"))
    return Listed(
        created=_whole(entry.get("created")) or 0,
        capabilities=_words(entry.get("capabilities")),
        modes=_words(entry.get("modes")),
        context_length=next((length for length in map(_whole, lengths) if length), None),
    )


def _words(value: Any) -> tuple[str, ...]:
    words = value[:MAX_WORDS] if isinstance(value, list) else ()
    return tuple(word for word in words if isinstance(word, str) and _WORD.fullmatch(word))


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**53 else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable() else ""


@asynccontextmanager
async def _client(openai: Any, upstream: Upstream) -> AsyncIterator[AsyncOpenAI]:
    """What the environment says of OpenAI's own service is not meant for other servers."""
    client = openai.AsyncOpenAI(
        api_key="none",
        admin_api_key="",
        base_url=upstream.base_url,
        timeout=openai.Timeout(_wait(upstream), connect=upstream.connect_timeout),
        max_retries=_RETRIES,
        default_query=dict(upstream.query),
        http_client=openai.DefaultAsyncHttpxClient(
            proxy=upstream.proxy or None, trust_env=False, follow_redirects=False, verify=tls_context(upstream.ca_file)
        ),
    )
    client.organization = client.project = None  # those of the upstream are among the headers
    async with client:
        yield client


def _headers(openai: Any, upstream: Upstream) -> dict[str, Any]:
    try:
        pairs = (*upstream.headers.items(), *Key(upstream).headers())
    except KeyUnavailable as error:
        raise ListingFailed(str(error)) from None
    # Names in lower case, since the SDK tells "authorization" from "Authorization".
    ours: dict[str, Any] = {name.lower(): value for name, value in pairs}
    return {"Authorization": ours.pop("authorization", openai.Omit()), **ours}


async def _page(client: AsyncOpenAI, headers: dict[str, Any]) -> bytes:
    pieces = bytearray()
    async with client.models.with_streaming_response.list(extra_headers=headers) as response:
        async for piece in response.iter_bytes():
            pieces += piece
            if len(pieces) > _MAX_BYTES:
                raise ListingFailed("its answer is too large")
    return bytes(pieces)


def _wait(upstream: Upstream) -> float:
    return min(upstream.first_byte_timeout, _LONGEST_WAIT)
