"""How a model will be served, as far as its files tell. Imports no heavy library; the probe at load has the last word."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from handlers import types as t
from handlers.analyze import read_config
from handlers.decoding.kernels.compiler import NotBuilt, check
from handlers.decoding.kernels.weights import WORTHWHILE, WeightFormat, format_of, is_asked_for
from handlers.decoding.rotary import packs_up_to

LAYERS = frozenset({"full_attention", "sliding_attention"})
# their attention never sees the block table, or they keep other state: the probe refused them when they were tried
ALONE = frozenset(
    {
        "bamba",
        "bloom",
        "falcon",
        "falcon_h1",
        "falcon_mamba",
        "jamba",
        "lfm2",
        "mamba",
        "mamba2",
        "rwkv",
        "stablelm",
        "zamba",
        "zamba2",
    }
)


class Outlook(Struct, frozen=True, kw_only=True):
    """``path`` and ``weights`` of ``Analysis``."""

    path: Literal["engine", "generate"]
    weights: WeightFormat


def outlook(spec: t.ModelSpec, found: t.Analysis) -> Outlook:
    """Raises ``ModelUnavailable`` for an unknown ``options.weights``."""
    alone = refusal(read_config(Path(spec.path)), found.context_length)
    return Outlook(path="generate" if alone else "engine", weights=_weights(spec, found))


def refusal(config: dict[str, Any], context: int | None = None) -> str | None:
    """Why a configuration rules out that requests are packed, whose sequences have up to ``context`` tokens."""
    inner = config.get("text_config")
    text = config | inner if isinstance(inner, dict) else config
    if text.get("model_type") in ALONE or text.get("is_encoder_decoder"):
        return "it keeps other state than keys and values"
    kinds = text.get("layer_types")
    if isinstance(kinds, list) and not set(map(str, kinds)) <= LAYERS:
        return "some of its layers are of another kind than attention"
    rotary = text.get("rope_parameters") or text.get("rope_scaling")
    if isinstance(rotary, dict) and "mrope_section" in rotary:
        return "its positions have more than one dimension"
    most = packs_up_to(text)
    if most is not None and (context is None or context > most):
        return "long prompts change the positions of those beside them"
    return None


def _weights(spec: t.ModelSpec, found: t.Analysis) -> WeightFormat:
    """The format that is asked for, or ``dtype`` where the kernels will not be used."""
    wanted = format_of(spec)
    if is_asked_for(spec) or wanted == "dtype":
        return wanted
    size = found.bytes_per_dtype.get(found.dtype, WORTHWHILE)
    return "dtype" if spec.device not in ("auto", "cpu") or size < WORTHWHILE or not _has_kernels() else wanted


def _has_kernels() -> bool:
    try:
        check()
    except NotBuilt:
        return False
    return True
