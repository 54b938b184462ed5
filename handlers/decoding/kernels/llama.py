"""All layers of a Llama-like model in one native call, where its step would else be hundreds of small ones.

It takes the place of the model's ``forward`` for packed steps only; everything else goes the ordinary way.
"""

from __future__ import annotations

import ctypes
import weakref
from functools import wraps
from typing import TYPE_CHECKING, Any

from handlers.decoding.attention import Paged
from handlers.decoding.kernels.native import Kernels, Matrix

if TYPE_CHECKING:
    from torch import Tensor

_P, _N = ctypes.c_void_p, ctypes.c_int64
_KNOWN = frozenset({"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})
_MATRICES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
_MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
_LANES = 32


class _Layer(ctypes.Structure):
    """As ``Layer`` in llama.hpp."""

    _fields_ = (
        *((name, _P) for name in ("query", "key", "value", "out", "gate", "up", "down")),
        *((name, _P) for name in ("before", "after", "query_bias", "key_bias", "value_bias", "out_bias")),
        *((name, _P) for name in ("query_norm", "key_norm")),
        ("window", _N),
    )


class _Step(ctypes.Structure):
    """As ``Step`` in llama.hpp."""

    _fields_ = (
        ("tokens", _N),
        *((name, _P) for name in ("hidden", "cosines", "sines", "slots", "lengths", "begins", "tables", "keys", "values")),
        ("block", _N),
        ("half", _N),
        ("kept", _N),
        ("keep", _P),
        ("logits", _P),
    )


def fuse(model: Any, kernels: Kernels, matrices: dict[str, Matrix]) -> bool:
    """Let packed steps of the model run natively; False where it is not of a kind that is known to be the same."""
    if not _is_known(model, matrices):
        return False
    fused = FusedLlama(model, kernels, matrices)
    ordinary = model.forward

    @wraps(ordinary)
    def forward(*args: Any, **options: Any) -> Any:
        import torch

        paged, keep = options.get("paged"), options.get("logits_to_keep")
        if isinstance(paged, Paged) and isinstance(keep, torch.Tensor):
            return fused.run(options["input_ids"], options["position_ids"], paged, keep)
        return ordinary(*args, **options)

    model.forward = forward
    return True


class FusedLlama:
    """Owns the native description of the model, and whatever memory that points to."""

    def __init__(self, model: Any, kernels: Kernels, matrices: dict[str, Matrix]) -> None:
        self._base = model.model
        self._kernels = kernels
        self._kept: list[Tensor] = []
        config = model.config
        self._vocabulary = matrices["lm_head"].outputs
        heads = config.num_key_value_heads
        self._handle = kernels.calls.llama_new(
            config.hidden_size,
            heads,
            config.num_attention_heads // heads,
            _head_size(model),
            config.intermediate_size,
            config.rms_norm_eps,
            self._pointer(self._base.norm.weight),
            matrices["lm_head"].handle,
        )
        self._matrices = matrices
        for i, layer in enumerate(self._base.layers):
            kernels.calls.llama_add(self._handle, ctypes.byref(self._describe(i, layer)))
        weakref.finalize(self, kernels.calls.llama_free, self._handle)

    def run(self, ids: Tensor, positions: Tensor, paged: Paged, keep: Tensor) -> Any:
        """One step: writes the cache and gives the logits of the tokens in ``keep``."""
        import torch
        from transformers.modeling_outputs import CausalLMOutputWithPast

        hidden = self._base.embed_tokens(ids)[0].float().contiguous()
        cosines, sines = (part.contiguous() for part in self._base.rotary_emb(hidden, positions))
        layout = paged.layout()
        stores = [(cache := paged.cache).keys, cache.values]
        count = len(self._base.layers)
        keys, values = ((_P * count)(*(store[i].data_ptr() for i in range(count))) for store in stores)
        logits = torch.empty(len(keep), self._vocabulary)
        step = _Step(
            tokens=len(hidden),
            hidden=hidden.data_ptr(),
            cosines=cosines.data_ptr(),
            sines=sines.data_ptr(),
            slots=layout.slots.data_ptr(),
            lengths=layout.lengths.data_ptr(),
            begins=layout.begins.data_ptr(),
            tables=layout.tables.data_ptr(),
            keys=ctypes.addressof(keys),
            values=ctypes.addressof(values),
            block=cache.block_size,
            half=cache.keys[0].dtype == torch.bfloat16,
            kept=len(keep),
            keep=keep.data_ptr(),
            logits=logits.data_ptr(),
        )
        self._kernels.calls.llama_run(self._handle, self._kernels.pool, ctypes.byref(step))
        return CausalLMOutputWithPast(logits=logits[None])

    def _describe(self, index: int, layer: Any) -> _Layer:
        attention = layer.self_attn
        handles = [self._matrices[f"model.layers.{index}.{name}"].handle for name in (*_MATRICES, *_MLP)]
        return _Layer(
            *handles,
            before=self._pointer(layer.input_layernorm.weight),
            after=self._pointer(layer.post_attention_layernorm.weight),
            query_bias=self._pointer(attention.q_proj.bias),
            key_bias=self._pointer(attention.k_proj.bias),
            value_bias=self._pointer(attention.v_proj.bias),
            out_bias=self._pointer(attention.o_proj.bias),
            query_norm=self._pointer(getattr(getattr(attention, "q_norm", None), "weight", None)),
            key_norm=self._pointer(getattr(getattr(attention, "k_norm", None), "weight", None)),
            window=_window(self._base.config, attention) or 0,
        )

    def _pointer(self, values: Tensor | None) -> int | None:
        """Of a float32 copy that lives as long as this object."""
        if values is None:
            return None
        self._kept.append(values.detach().float().contiguous())
        address: int = self._kept[-1].data_ptr()
        return address


def _is_known(model: Any, matrices: dict[str, Matrix]) -> bool:
    if type(model).__name__ not in _KNOWN:
        return False
    config = model.config
    needed = {f"model.layers.{i}.{name}" for i in range(len(model.model.layers)) for name in (*_MATRICES, *_MLP)}
    plain = config.hidden_act == "silu" and not getattr(config, "mlp_bias", False) and model.lm_head.bias is None
    return plain and needed | {"lm_head"} <= matrices.keys() and _head_size(model) % _LANES == 0


def _head_size(model: Any) -> int:
    size: int = model.model.layers[0].self_attn.head_dim
    return size


def _window(config: Any, attention: Any) -> int | None:
    """How many tokens a layer sees: it knows it itself, or (Mistral) all layers do the same."""
    found = config.sliding_window if config.model_type == "mistral" else getattr(attention, "sliding_window", None)
    return int(found) if found else None
