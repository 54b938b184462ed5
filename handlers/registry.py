"""Which handler serves which kind of model. A handler is a line here, or an entry point of another distribution.

Kinds are resolved on first use, so that the gateway can list them, and read facts of the built-in ones, without importing a
heavy library. A handler of another distribution is never imported by a listing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from handlers.audio_families import family_of
from handlers.base import BaseHandler
from handlers.encoding.families import role_of
from handlers.mixing.families import kind_of
from handlers.painting.families import pipeline_class
from handlers.seeing.families import is_vision
from handlers.types import ModelSpec
from openai_compat.errors import ModelUnavailable

GROUP = "openai_compat.handlers"
KINDS: Mapping[str, str] = {
    "echo": "handlers.echo:EchoHandler",
    "transformer": "handlers.transformer:TransformerHandler",
    "audio": "handlers.audio:AudioHandler",
    "embedding": "handlers.embedding:EmbeddingHandler",
    "classifier": "handlers.classifier:ClassifierHandler",
    "vision": "handlers.vision:VisionHandler",
    "multimodal": "handlers.multimodal:MultimodalHandler",
    "janus": "handlers.janus:JanusHandler",
    "diffusion": "handlers.diffusion:DiffusionHandler",
}
_CAUSAL = ("ForCausalLM", "LMHeadModel")


def is_builtin(kind: str) -> bool:
    """Whether ``kind`` ships with the product, so that its facts may be read in the gateway's own process."""
    return kind in KINDS


def kinds() -> tuple[str, ...]:
    """Every known kind, built-in ones first; imports no handler."""
    return (*KINDS, *sorted(_plugins().keys() - KINDS.keys()))


def resolve(kind: str) -> type[BaseHandler]:
    """The class of ``kind``; a built-in one wins over an entry point. Raises ``ModelUnavailable``."""
    if kind in KINDS:
        module, _, name = KINDS[kind].partition(":")
        return _checked(kind, getattr(import_module(module), name))
    plugin = _plugins().get(kind)
    if plugin is None:
        raise ModelUnavailable(f"There is no handler of kind '{kind}'. Known kinds: {', '.join(kinds())}.")
    try:
        found = plugin.load()
    except (ImportError, AttributeError) as error:
        raise ModelUnavailable(f"The handler of kind '{kind}' could not be imported.") from error
    return _checked(kind, found)


def detect(path: str) -> str:
    """The kind that serves the snapshot in the folder ``path``. Raises ``ModelUnavailable`` with the reason."""
    if family_of(path) is not None:
        return "audio"
    if (role := role_of(path)) is not None:
        return "classifier" if role == "classify" else "embedding"
    if is_vision(path):
        return "vision"
    if (mixed := kind_of(path)) is not None:
        return mixed
    if pipeline_class(path):
        return "diffusion"
    config = Path(path, "config.json")
    try:
        content = json.loads(config.read_bytes())
    except FileNotFoundError:
        raise ModelUnavailable("The model has no config.json; set `kind` in its configuration.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelUnavailable("The model's config.json cannot be read.") from error
    return _kind_of(content)


def create(spec: ModelSpec) -> BaseHandler:
    """A handler for ``spec``, not loaded yet; the kind ``auto`` is detected. Raises ``ModelUnavailable``."""
    kind = detect(spec.path) if spec.kind == "auto" else spec.kind
    return resolve(kind)(spec)


def _kind_of(config: Any) -> str:
    names = config.get("architectures") if isinstance(config, dict) else None
    architectures = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    if not architectures:
        raise ModelUnavailable("The model's config.json names no architecture; set `kind` in its configuration.")
    if any(name.endswith(_CAUSAL) for name in architectures):
        return "transformer"
    raise ModelUnavailable(f"No handler knows the architecture {', '.join(architectures)}; set `kind` to force one.")


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _checked(kind: str, found: Any) -> type[BaseHandler]:
    if not (isinstance(found, type) and issubclass(found, BaseHandler)):
        raise ModelUnavailable(f"The entry for kind '{kind}' is not a handler.")
    return found
