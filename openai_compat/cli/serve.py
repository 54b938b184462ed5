"""``openai-compat serve``: fetch what is missing, start, and say where."""

from __future__ import annotations

import gc
import json
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from shlex import quote
from threading import Thread
from typing import Any

from litestar.types import ASGIApp
from msgspec.structs import replace

from handlers.types import Verb
from openai_compat import logs
from openai_compat.certificates import Certificates
from openai_compat.cli.pull import pull as pull_models
from openai_compat.config import Config
from openai_compat.errors import APIError
from openai_compat.gateway.catalog import Catalog
from openai_compat.gateway.discovery import Discovery
from openai_compat.gateway.inspect import check_models, missing_models
from openai_compat.gateway.inspect_upstreams import check_upstreams
from openai_compat.gateway.offers import Offers
from openai_compat.gateway.order import LocalTarget
from openai_compat.http import descriptors
from openai_compat.http.crowd import Crowd
from openai_compat.http.gate import Gate
from openai_compat.http.hangup import Hangup
from openai_compat.http.listening import base_url, clear_away, listen, listen_at
from openai_compat.http.server import Door, Handles, run_doors
from openai_compat.keys.file import has_usable_key
from openai_compat.reload import Prepare, Read
from openai_compat.settings import ConfigError, check_exposure
from openai_compat.settings_relay import doubts

_OPERATORS = 64  # connections; ``http.descriptors`` has room for them
_logger = logging.getLogger("openai_compat.serve")


def serve(config: Config, *, pull: bool, read: Read | None = None) -> None:
    """Returns when a signal has ended the server. ``read`` reads the configuration again.

    Raises ``ConfigError`` and ``ListenError`` before anything is started.
    """
    hangup = Hangup()
    with hangup.heeded():
        _serve(config, hangup, pull=pull, read=read)
    _logger.info("stopped")


def _serve(config: Config, hangup: Hangup, *, pull: bool, read: Read | None) -> None:
    check_exposure(config)
    logs.configure(config.server.log_level, config.server.log_format)
    certificates = Certificates.of(config.server)
    # Found out before minutes of fetching, and not kept: a client is better refused than left waiting meanwhile.
    listen(config.server.host, config.server.port).close()
    if pull:
        _pull_missing(config)
    from openai_compat.app import create_gateway

    if warning := descriptors.allow(config.server.max_connections):
        _logger.warning("%s", warning)
    gateway = create_gateway(config, read=read)
    gateway.reload.also(_log_level)
    gateway.reload.also(_warner(config))
    if certificates is not None:
        gateway.reload.also(lambda _: certificates.renewed())
    _spare_the_collector()
    with ExitStack() as stack:
        listener = stack.enter_context(listen(config.server.host, config.server.port))
        tls = None if certificates is None else certificates.context
        doors = [Door(app=gateway, listener=listener, tls=tls, gate=Gate(gateway.crowd, gateway))]
        if address := config.admin.listen:
            stack.callback(clear_away, address)
            doors.append(_operators(gateway.admin, stack.enter_context(listen_at(address)), tls))
        handles = Handles(
            ready=lambda: _announce(config, *(door.listener for door in doors)),
            drain=gateway.drain,
            hangup=gateway.reload.hangup,
        )
        run_doors(doors, handles, hangup, grace=config.server.shutdown_grace, drain_delay=config.server.drain_delay)


def _operators(app: ASGIApp, listener: socket.socket, tls: ssl.SSLContext | None) -> Door:
    """A Unix socket, which nobody else can open, needs no encryption and no limit: strangers who connect over TCP would take
    all descriptors, and with them the clients' door.
    """
    if listener.family is socket.AF_UNIX:
        return Door(app=app, listener=listener)
    crowd = Crowd(connections=_OPERATORS, in_flight=_OPERATORS, setting="admin.listen")
    return Door(app=app, listener=listener, tls=tls, gate=Gate(crowd, app))


def _log_level(config: Config) -> Callable[[], None]:
    return lambda: logs.configure(config.server.log_level, config.server.log_format)


def _warner(config: Config) -> Prepare:
    """What the start says of models and upstreams is said after a reload of those that are new."""
    known = config

    def prepare(new: Config) -> Callable[[], None]:
        def say() -> None:
            nonlocal known
            since, known = known, new
            Thread(target=warn, args=(new, since), name="check", daemon=True).start()

        return say

    return prepare


def _spare_the_collector() -> None:
    """What is loaded by now stays. Looking through all of it again and again takes a tenth of a relayed request's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _pull_missing(config: Config) -> None:
    """A model that cannot be fetched does not keep the others from being served."""
    missing = missing_models(config)
    if not missing or pull_models(config, missing) or config.upstreams:
        return
    if len(missing) == len(config.models) == len(missing_models(config)):
        raise ConfigError("no model could be fetched; --no-pull starts the server all the same")


def _announce(config: Config, listener: socket.socket, operators: socket.socket | None = None) -> None:
    scheme = "https" if config.server.tls_cert else "http"
    url = base_url(listener, scheme=scheme)
    catalog = Catalog(config)
    offers = Offers(config, catalog, Discovery(config))
    named, patterns = offers.names(), offers.patterns()
    _logger.info(
        "listening on %s, models: %s",
        url,
        ", ".join((*named, *patterns)) or "none",
        extra={"fields": {"url": url, "models": (*named, *patterns)}},
    )
    if operators is not None:
        near = operators.family is socket.AF_UNIX
        where = operators.getsockname() if near else base_url(operators, scheme=scheme).removesuffix("/v1")
        _logger.info("operators are served on %s", where)
    if config.server.log_format == "text" and (named or patterns):
        with_key = bool(config.auth.keys) or has_usable_key(config)
        command = (
            example(url, named[0], _abilities(catalog, offers, named[0]), with_key=with_key)
            if named
            else f"curl {url}/models{_authorization(with_key)}"
        )
        _logger.info("try it: %s", command)
    Thread(target=warn, args=(config,), name="check", daemon=True).start()


def warn(config: Config, since: Config | None = None) -> None:
    """Say before the first request what each would be told; reading files is nothing that the server should wait for.

    Of what was the same in the configuration ``since`` that was said before.
    """
    said = since or Config()
    for doubt in doubts(config):
        _logger.warning("%s", doubt)
    fresh = {name: upstream for name, upstream in config.upstreams.items() if said.upstreams.get(name) != upstream}
    for upstream in check_upstreams(replace(config, upstreams=fresh)):
        for note in (*upstream.missing, *upstream.doubts):
            _logger.warning("the upstream '%s': %s", upstream.name, note)
    models = {name: model for name, model in config.models.items() if said.models.get(name) != model}
    for checked in check_models(replace(config, models=models)):
        for problem in checked.problems or (
            () if checked.present else (f"The files of the model '{checked.id}' are not here.",)
        ):
            _logger.warning("%s: %s", checked.id, problem)


def _abilities(catalog: Catalog, offers: Offers, name: str) -> Sequence[str]:
    """What is known without asking anybody; of a route, what its first target can do."""
    try:
        target = offers.find(name).choices[0].target
    except APIError:  # it stands for what an upstream has not listed yet
        return ()
    return catalog.entry(target.model_id).capabilities if isinstance(target, LocalTarget) else offers.capabilities(target)


_QUESTIONS: dict[Verb, tuple[str, dict[str, Any]]] = {
    "generate_text": ("chat/completions", {"messages": [{"role": "user", "content": "Hello!"}]}),
    "embed_text": ("embeddings", {"input": "Hello!"}),
    "classify_text": ("moderations", {"input": "Hello!"}),
    "generate_audio": ("audio/speech", {"voice": "alloy", "input": "Hello!"}),
    "generate_image": ("images/generations", {"prompt": "a red circle on a blue background"}),
}


def example(url: str, model: str, abilities: Sequence[str], *, with_key: bool) -> str:
    """A command that a new user can paste; a chat where it is not known what the model can do."""
    auth = _authorization(with_key)
    if "process_audio" in abilities and "generate_text" not in abilities:
        return f"curl {url}/audio/transcriptions{auth} -F file=@speech.wav -F model={quote(model)}"
    verb: Verb = next((verb for verb in _QUESTIONS if verb in abilities), "generate_text")
    path, question = _QUESTIONS[verb]
    body = quote(json.dumps({"model": model, **question}, ensure_ascii=False))
    file = " -o speech.mp3" if verb == "generate_audio" else ""
    return f"curl {url}/{path}{auth} -H 'content-type: application/json' -d {body}{file}"


def _authorization(with_key: bool) -> str:
    return ' -H "authorization: Bearer $OPENAI_API_KEY"' if with_key else ""
