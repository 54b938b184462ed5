"""The server under test, as checks reach it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PREFIX = "CONFORMANCE_"
MODELS = ("model", "embedding_model", "speech_model", "voice", "transcription_model", "image_model", "vision_model")
LIMIT = float(os.environ.get(PREFIX + "SECONDS", "60"))
"""What a check may take."""
SECONDS = LIMIT * 5 / 6
"""A client's patience: less than a check has, so that it fails by its own error."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """``base_url`` ends in ``/v1`` and leads through the recorder, as ``origin`` does; ``target`` is the server itself.

    The models of other kinds are empty where none was named.
    """

    target: str
    base_url: str
    api_key: str = "none"
    model: str
    embedding_model: str = ""
    speech_model: str = ""
    voice: str = "alloy"
    transcription_model: str = ""
    image_model: str = ""
    vision_model: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Where the Anthropic SDK begins: it appends ``/v1`` itself."""
        return self.base_url.removesuffix("/v1")


def from_environment(base_url: str | None = None) -> Server:
    """What `run.py` was told, with ``base_url`` of the recorder."""
    told = {name.removeprefix(PREFIX).lower(): value for name, value in os.environ.items() if name.startswith(PREFIX)}
    target = told["base_url"].rstrip("/")
    given = {name: told[name] for name in ("api_key", *MODELS) if told.get(name)}
    pairs = (line.partition(":") for line in told.get("headers", "").splitlines())
    headers = {name.strip(): value.strip() for name, _, value in pairs if name.strip()}
    return Server(target=target, base_url=base_url or target, headers=headers, **given)  # type: ignore[arg-type]


def through(recorder: str, target: str) -> str:
    """The path of ``target`` at the recorder's origin."""
    return recorder + urlsplit(target).path
