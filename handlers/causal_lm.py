"""Loading a causal language model of transformers from a local snapshot: safetensors only, no code of the repository."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from handlers import offload, placement, quantization
from handlers import types as t
from handlers.chat_template import ChatTemplate
from handlers.decoding.kernels.weights import Packed, pack_model
from handlers.decoding.params import Defaults, SamplingOptions
from handlers.decoding.vocabulary import Vocabulary
from handlers.loading import load_errors
from openai_compat.errors import ModelUnavailable

LOCAL = {"local_files_only": True, "trust_remote_code": False}
_READ = 64 << 20
_TEMPLATE_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
_UNKNOWN_CONTEXT = 4096


class CausalLM(Struct, frozen=True, kw_only=True):
    """A loaded model and what its files say about using it; ``context_length`` in tokens.

    ``fused``: all layers of a step are one native call, and a row's numbers the same bits in any company.
    """

    model: Any
    vocabulary: Vocabulary
    template: ChatTemplate | None
    defaults: Defaults
    context_length: int
    vocab_size: int
    bos: int | None
    threads: int
    fused: bool


def load(spec: t.ModelSpec, report: t.LoadReport) -> CausalLM:
    """Raises ``ModelUnavailable`` with a reason a client may read, ``InsufficientMemory`` where the device is full."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    with load_errors(spec):
        report("reading the tokenizer")
        tokenizer = AutoTokenizer.from_pretrained(spec.path, **LOCAL)
        config = AutoConfig.from_pretrained(spec.path, **LOCAL)
        template = template_of(tokenizer.chat_template, tokenizer)
        model = read_model(spec, AutoModelForCausalLM, config, report)
        plain = not (offload.is_offloaded(model) or quantization.wanted(spec))
        packed = pack_model(model, spec, report) if plain else None
        return describe(spec, model, tokenizer, template, report, packed=packed)


def describe(
    spec: t.ModelSpec,
    model: Any,
    tokenizer: Any,
    template: ChatTemplate | None,
    report: t.LoadReport,
    *,
    packed: Packed | None = None,
) -> CausalLM:
    """Take the model's wishes from it, and measure the threads it computes on."""
    report("measuring threads")
    return CausalLM(
        model=model,
        vocabulary=Vocabulary(tokenizer),
        template=template,
        defaults=_configured(spec, _take_defaults(model, tokenizer)),
        context_length=_context_length(spec, model, tokenizer),
        vocab_size=model.get_output_embeddings().weight.shape[0],
        bos=tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id,
        threads=_threads(spec, model, packed),
        fused=packed is not None and packed.fused,
    )


def read_model(spec: t.ModelSpec, cls: Any, config: Any, report: t.LoadReport) -> Any:
    """The weights in a model of the library's class ``cls``, on the device and in the numbers that ``spec`` asks for."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    device = placement.device_of(spec)
    dtype = placement.dtype_of(spec, str(config.dtype or "float32").removeprefix("torch."), device)
    total = _read_ahead(spec, report)
    report("placing the weights", total, total)
    smaller = quantization.wanted(spec)
    places = {"device_map": {"": "cpu"}} if smaller else offload.arguments(spec, cls, config, device, dtype)
    try:
        model, info = cls.from_pretrained(
            spec.path, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **places, **LOCAL
        )
    except RuntimeError as error:
        if "ignore_mismatched_sizes" in str(error):
            raise _misfit(spec) from error
        raise
    offload.tidy(model, places)
    if info["missing_keys"] or info["mismatched_keys"]:
        raise _misfit(spec)
    return quantization.shrink(model, device).eval() if smaller else model.eval()


def _misfit(spec: t.ModelSpec) -> ModelUnavailable:
    return ModelUnavailable(f"Weights of '{spec.id}' are missing or have the wrong shape.", retry=False)


def _read_ahead(spec: t.ModelSpec, report: t.LoadReport) -> int:
    """Read the weights once into the page cache, since the loader itself tells nobody how far it is; their bytes."""
    files = sorted(Path(spec.path).glob("*.safetensors"))
    done, total = 0, sum(file.stat().st_size for file in files)
    for file in files:
        with file.open("rb", buffering=0) as weights:
            while block := weights.read(_READ):
                done += len(block)
                report("reading the weights", done, total)
    return total


def template_of(source: Any, tokenizer: Any, cls: type[ChatTemplate] = ChatTemplate) -> ChatTemplate | None:
    """Of several templates the default one, or the first."""
    if isinstance(source, dict):
        source = source.get("default") or next(iter(source.values()), None)
    if not source:
        return None
    tokens = {name: str(getattr(tokenizer, name)) for name in _TEMPLATE_TOKENS if getattr(tokenizer, name, None)}
    return cls(source, tokens)


def _take_defaults(model: Any, tokenizer: Any) -> Defaults:
    """Read the model's wishes, then clear them: ``generate()`` would mix them into every request by itself."""
    from transformers import GenerationConfig

    wishes = model.generation_config
    ends = wishes.eos_token_id if isinstance(wishes.eos_token_id, list) else [wishes.eos_token_id]
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    found: dict[str, Any] = {name: getattr(wishes, name, None) for name in names}
    model.generation_config = GenerationConfig()
    eos = frozenset(number for number in [*ends, tokenizer.eos_token_id] if number is not None)
    return Defaults(eos_ids=eos, **{name: value for name, value in found.items() if _is_sensible(name, value)})


def _is_sensible(name: str, value: Any) -> bool:
    """Whether an operator could set it, too: what else a file says would fail each request that leaves it open."""
    try:
        told = getattr(msgspec.convert({name: value}, SamplingOptions), name)
    except msgspec.ValidationError:
        return False
    return told is not None and math.isfinite(told)


def _configured(spec: t.ModelSpec, wishes: Defaults) -> Defaults:
    """The operator's ``options.sampling`` wins over the model's wishes. Raises ``ModelUnavailable`` naming what is wrong."""
    try:
        told = msgspec.convert(spec.options.get("sampling", {}), SamplingOptions)
    except msgspec.ValidationError as error:
        raise ModelUnavailable(f"options.sampling of '{spec.id}' cannot be used: {error}.") from error
    return replace(wishes, **{name: value for name, value in asdict(told).items() if value is not None})


def _context_length(spec: t.ModelSpec, model: Any, tokenizer: Any) -> int:
    """The configured length, within what the model was made for."""
    made_for = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not made_for or made_for < 1:
        made_for = tokenizer.model_max_length if tokenizer.model_max_length < 1 << 30 else _UNKNOWN_CONTEXT
    return min(made_for, spec.context_length or made_for)


def _threads(spec: t.ModelSpec, model: Any, packed: Packed | None) -> int:
    import torch

    token = torch.zeros((1, 1), dtype=torch.long, device=model.device)

    def step() -> None:
        with torch.inference_mode():
            model(input_ids=token)

    if model.device.type != "cpu":
        return 1
    if packed is not None:
        return placement.set_pool_threads(spec, packed.kernels.use_threads, packed.pieces())
    return placement.set_threads(spec, step)
