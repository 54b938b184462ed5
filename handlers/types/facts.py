"""What a model is, and what a request used."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import Struct

Verb: TypeAlias = Literal[
    "generate_text",
    "generate_image",
    "generate_audio",
    "generate_video",
    "process_image",
    "process_audio",
    "process_multimodal",
    "embed_text",
    "embed_image",
    "embed_multimodal",
    "rank_text",
    "classify_text",
    "tokenize_text",
]


VERBS: tuple[Verb, ...] = Verb.__args__  # type: ignore[attr-defined]


class ModelSpec(Struct, frozen=True, kw_only=True):
    """One model as a handler sees it: resolved files and how to load them."""

    id: str
    path: str
    kind: str
    device: str = "auto"
    dtype: str = "auto"
    context_length: int | None = None
    threads: int | None = None
    options: dict[str, Any] = {}


class Analysis(Struct, frozen=True, kw_only=True):
    """What a model's files tell without loading it.

    ``bytes_per_dtype`` maps a dtype name (``float32``, ``bfloat16``, ``int8`` …) to the bytes that the weights take in memory;
    ``load_bytes`` is the estimate for the spec's own dtype with the handler's overhead (activations, caches).
    """

    architecture: str
    parameters: int
    dtype: str
    bytes_per_dtype: dict[str, int]
    load_bytes: int
    context_length: int | None = None
    capabilities: tuple[Verb, ...] = ()
    modes: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    system_dependencies: tuple[str, ...] = ()
    weight_format: str = "safetensors"
    has_chat_template: bool = False
    path: Literal["", "engine", "generate"] = ""  # what serves a text model; ``weights`` is their format there, on a processor
    weights: str = ""


class Mode(Struct, frozen=True, kw_only=True):
    """A named bundle of defaults. Request fields win over it.

    ``template`` holds ``{input}`` (the last user text) and is applied to it; ``variables`` are its other placeholders with
    their defaults, filled from the request's ``mode_options``.
    """

    description: str
    system_prompt: str | None = None
    template: str | None = None
    variables: dict[str, str] = {}
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    requires: Literal["text", "messages", "image", "audio", "any"] = "any"
    output: str = "text"


class Usage(Struct, frozen=True, kw_only=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
