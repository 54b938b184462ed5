"""``openai-compat serve``: fetch what is missing, start, and say where."""

from __future__ import annotations

import json
import logging
import socket

from openai_compat import logs
from openai_compat.cli.pull import pull as pull_models
from openai_compat.config import Config
from openai_compat.gateway.inspect import missing_models
from openai_compat.http.server import base_url, listen, run
from openai_compat.settings import ConfigError, check_exposure

_logger = logging.getLogger("openai_compat.serve")


def serve(config: Config, *, pull: bool) -> None:
    """Returns when a signal has ended the server. Raises ``ConfigError`` and ``ListenError`` before anything is started."""
    check_exposure(config)
    logs.configure(config.server.log_level, config.server.log_format)
    # Found out before minutes of fetching, and not kept: a client is better refused than left waiting meanwhile.
    listen(config.server.host, config.server.port).close()
    if pull:
        _pull_missing(config)
    from openai_compat.app import create_gateway

    app = create_gateway(config)
    with listen(config.server.host, config.server.port) as listener:
        run(app, listener, grace=config.server.shutdown_grace, on_ready=lambda: _announce(config, listener))
    _logger.info("stopped")


def _pull_missing(config: Config) -> None:
    """A model that cannot be fetched does not keep the others from being served."""
    missing = missing_models(config)
    if missing and not pull_models(config, missing) and len(missing) == len(config.models) == len(missing_models(config)):
        raise ConfigError("no model could be fetched; --no-pull starts the server all the same")


def _announce(config: Config, listener: socket.socket) -> None:
    url = base_url(listener)
    names = (*config.models, *config.aliases)
    _logger.info(
        "listening on %s, models: %s", url, ", ".join(names) or "none", extra={"fields": {"url": url, "models": names}}
    )
    if config.server.log_format == "text" and names:
        _logger.info("try it: %s", example(url, names[0], with_key=bool(config.auth.keys)))


def example(url: str, model: str, *, with_key: bool) -> str:
    """A command that a new user can paste."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello!"}]}, ensure_ascii=False)
    auth = ' -H "authorization: Bearer $OPENAI_API_KEY"' if with_key else ""
    quoted = body.replace("'", "'\\''")
    return f"curl {url}/chat/completions{auth} -H 'content-type: application/json' -d '{quoted}'"
