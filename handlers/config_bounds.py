"""The numbers of a model's ``config.json``, held to what any model could have and to what its own weights could fill.

A library believes them: it would make 10^18 layers, or a matrix of 2^40 rows, before it looks at the weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from handlers.headers import BadHeader, TensorInfo

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers", "num_decoder_layers")
SIZES = (
    "hidden_size",
    "d_model",
    "n_embd",
    "dim",
    "hidden_dim",
    "d_ff",
    "ffn_dim",
    "intermediate_size",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "embedding_size",
    "vocab_size",
    "head_dim",
    "d_kv",
    "q_lora_rank",
    "kv_lora_rank",
)
COUNTS = (
    *("num_attention_heads", "num_key_value_heads", "n_head", "n_heads", "num_heads"),
    *("num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok"),
    *("encoder_attention_heads", "decoder_attention_heads", "image_size", "patch_size", "num_channels"),
)
MAX_LAYERS = 10_000
MAX_SIZE = 2**31
MAX_COUNT = 1_000_000
MAX_LABELS = 1_000_000
MAX_DEPTH = 20
_FINITE = ("theta", "factor", "eps", "epsilon")
PACKED = 8  # numbers that quantization may put into one element
SLACK_LAYERS, SLACK_SIZE = 64, 4096  # so little does no harm, whatever the weights are


def check_numbers(path: Path, config: dict[str, Any]) -> None:
    """Raises ``BadHeader`` naming the key whose value no model could have, in whatever part of the configuration it stands."""
    for part in _parts(config):
        for key, value in part.items():
            if isinstance(value, float) and not _is_sensible(key, value):
                raise _impossible(path, key, value)
        for keys, least, most in (
            (LAYERS[:1], 1, MAX_LAYERS),
            (LAYERS[1:], 0, MAX_LAYERS),
            (SIZES, 0, MAX_SIZE),
            (COUNTS, 0, MAX_COUNT),
        ):
            for key in keys:
                _check(path, key, part.get(key), least, most)
        _check(path, "max_position_embeddings", part.get("max_position_embeddings"), -1, MAX_SIZE)
        _check(path, "num_labels", part.get("num_labels"), 0, MAX_LABELS)


def check_against_weights(path: Path, config: dict[str, Any], tensors: tuple[TensorInfo, ...]) -> None:
    """Raises ``BadHeader`` where the configuration tells of more than the files hold. Without tensors nothing is known."""
    if not tensors:
        return
    elements = PACKED * sum(tensor.elements for tensor in tensors) + SLACK_SIZE
    for part in _parts(config):
        for key in LAYERS:
            if _is_over(part.get(key), PACKED * len(tensors) + SLACK_LAYERS):
                raise BadHeader(path, f"'{key}' is {part[key]}, and the weights are {len(tensors)} tensors")
        for key in (*SIZES, *COUNTS):
            if _is_over(part.get(key), elements):
                raise BadHeader(path, f"'{key}' is {part[key]}, which is more than the weights could fill")


def _parts(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The configuration and every object in it."""
    waiting: list[tuple[Any, int]] = [(config, 0)]
    while waiting:
        part, depth = waiting.pop()
        if isinstance(part, dict):
            yield part
        inner = part.values() if isinstance(part, dict) else part
        if depth < MAX_DEPTH:
            waiting += [(value, depth + 1) for value in inner if isinstance(value, dict | list)]


def _check(path: Path, key: str, value: Any, least: int, most: int) -> None:
    if type(value) is int and not least <= value <= most:
        raise _impossible(path, key, value)


def _is_sensible(key: str, value: float) -> bool:
    """Some models' limits are endless, and no other number is."""
    return math.isfinite(value) or (value > 0 and not key.endswith(_FINITE))


def _is_over(value: Any, most: int) -> bool:
    return type(value) is int and value > most


def _impossible(path: Path, key: str, value: Any) -> BadHeader:
    shown = str(value) if isinstance(value, float) or abs(value) < 10**40 else "a number of very many digits"
    return BadHeader(path, f"'{key[:80]}' is {shown}, which no model has")
