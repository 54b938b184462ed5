"""Facts of a model, by its handler's classmethods.

Handlers of other distributions are asked in a process of their own, so that they cannot bring torch into the gateway:
``python -P -m openai_compat.gateway.facts`` reads a spec and writes facts, as JSON.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import msgspec
from msgspec import Struct

from handlers import registry
from handlers.types import Analysis, ModelSpec
from openai_compat.errors import ModelUnavailable
from openai_compat.gateway.environment import worker_environment

TIMEOUT = 120
logger = logging.getLogger(__name__)


class Facts(Struct, frozen=True, kw_only=True):
    """``problems`` of the files, one line each; the analysis is there when there are none."""

    problems: tuple[str, ...] = ()
    analysis: Analysis | None = None


def facts_of(spec: ModelSpec) -> Facts:
    """Ask the handler of ``spec.kind``. A handler that cannot be asked is a problem like any other."""
    try:
        return _ask(spec) if registry.is_builtin(spec.kind) else _ask_outside(spec)
    except ModelUnavailable as error:
        return Facts(problems=(error.message,))
    except Exception:  # what a stranger's configuration does to whoever reads it is beyond counting
        logger.warning("the files of '%s' cannot be understood", spec.id, exc_info=True)
        return Facts(problems=("config.json: cannot be understood",))


def _ask(spec: ModelSpec) -> Facts:
    handler = registry.resolve(spec.kind)
    if problems := handler.validate_model_files(spec):
        return Facts(problems=problems)
    return Facts(analysis=handler.analyze(spec))


def _ask_outside(spec: ModelSpec) -> Facts:
    """The child's standard output is for the facts alone; what a handler prints goes to its standard error."""
    if spec.kind not in registry.kinds():
        registry.resolve(spec.kind)
    command = [sys.executable, "-P", "-m", "openai_compat.gateway.facts"]
    try:
        ended = subprocess.run(  # noqa: S603
            command,
            input=msgspec.json.encode(spec),
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
            env=worker_environment(os.environ),
        )
        return msgspec.json.decode(ended.stdout, type=Facts)
    except subprocess.TimeoutExpired as error:
        raise ModelUnavailable(f"The handler of kind '{spec.kind}' gave no facts within {TIMEOUT} s.") from error
    except msgspec.DecodeError as error:
        raise ModelUnavailable(f"The handler of kind '{spec.kind}' failed while it was asked for facts.") from error


def main() -> None:
    result = os.dup(1)
    os.dup2(2, 1)
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=ModelSpec)
    try:
        facts = _ask(spec)
    except ModelUnavailable as error:
        facts = Facts(problems=(error.message,))
    with os.fdopen(result, "wb") as output:
        output.write(msgspec.json.encode(facts))


if __name__ == "__main__":
    main()
