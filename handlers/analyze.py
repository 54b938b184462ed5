"""What a model's files tell without loading them: configuration, tokenizer files and weight headers. Imports no heavy library.

Every number is a stranger's: out of bounds it counts as not given.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from handlers import types as t
from handlers.config_bounds import check_against_weights, check_numbers
from handlers.headers import BadHeader, Header, TensorInfo, read_safetensors
from handlers.headers_ctranslate2 import read_ctranslate2
from handlers.headers_gguf import read_gguf

if TYPE_CHECKING:
    from handlers.base import BaseHandler

# private memory of a worker that has torch and transformers imported, with room to work: 335 MiB and 50 were measured
RUNTIME_BYTES = 384 * 2**20
USUAL_CACHE = 256 * 2**20  # bytes of keys and values that a text engine on a processor keeps at least
USUAL_SEQUENCES = 64  # … and no more than so many full contexts
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
MAX_JSON = 64 * 2**20
MAX_NUMBER = 2**31
MAX_TOTAL = 2**62
CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "n_ctx",
    "max_target_positions",
)
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "spm_char.model", "tekken.json")
CONFIGURATIONS = ("config.json", "model_index.json", "*.onnx.json")
INDEXES = ("model.safetensors.index.json", "diffusion_pytorch_model.safetensors.index.json")
UNLIMITED = 10**9
FORMATS = {".bin": "ctranslate2"}
READERS = {"safetensors": read_safetensors, "gguf": read_gguf, "ctranslate2": read_ctranslate2}


class Weights(Struct, frozen=True, kw_only=True):
    """All tensors of a snapshot, by header; ``unread`` are the bytes of files whose headers are not read here."""

    tensors: tuple[TensorInfo, ...]
    unread: int = 0
    metadata: dict[str, Any] = {}
    format: str = "safetensors"


def analyze_snapshot(spec: t.ModelSpec, cls: type[BaseHandler]) -> t.Analysis:
    """Read the headers of ``spec``'s files. Raises ``ModelUnavailable`` where they are missing or lie."""
    root = Path(spec.path)
    config = read_config(root)
    weights = read_weights(root)
    parameters = _parameters(weights, config)
    stored = _stored_dtype(weights, config)
    per_dtype = {name: min(parameters * size, MAX_TOTAL) for name, size in DTYPE_BYTES.items()}
    context = context_length(root, config, weights, spec.context_length)
    capabilities = cls.get_model_capabilities(spec)
    return t.Analysis(
        architecture=_architecture(config, weights),
        parameters=min(parameters, MAX_TOTAL),
        dtype=stored,
        bytes_per_dtype=per_dtype,
        load_bytes=_load_bytes(spec, stored, per_dtype, weights, cache_bytes(spec, config, context)),
        context_length=context,
        capabilities=tuple(verb for verb in t.VERBS if verb in capabilities),
        modes=cls.get_supported_modes(spec),
        dependencies=cls.get_dependencies(spec),
        system_dependencies=cls.get_system_dependencies(spec),
        weight_format=weights.format,
        has_chat_template=has_chat_template(root, weights),
    )


def missing_files(spec: t.ModelSpec, *, words: bool = True) -> tuple[str, ...]:
    """What a snapshot lacks to be loaded, one line each; the files' inside is the scan's business.

    Args:
        words: whether the model reads or writes text; some that do not name a vocabulary's size all the same.
    """
    root = Path(spec.path)
    if not root.is_dir():
        return (f"{root.name}: there is no such folder",)
    return tuple(_missing(root, words))


def _missing(root: Path, words: bool) -> Iterator[str]:
    if not any(any(root.glob(name)) for name in CONFIGURATIONS):
        yield "config.json: is missing"
    try:
        config = read_config(root)
        shards = _indexed(root)
        check_numbers(root / "config.json", config)
        if all((root / name).is_file() for name in shards):
            check_against_weights(root / "config.json", config, read_weights(root).tensors)
    except BadHeader as error:
        yield error.message
        return
    yield from (f"{name}: is missing, and the index names it" for name in shards if not (root / name).is_file())
    if not shards and not any(_weight_files(root)):
        yield "model.safetensors: is missing"
    if words and "vocab_size" in config and not any((root / name).is_file() for name in TOKENIZERS):
        yield "tokenizer.json: is missing"


# ---------------------------------------------------------------- reading


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no such file. Raises ``BadHeader`` on anything else."""
    try:
        if path.stat().st_size > MAX_JSON:
            raise BadHeader(path, "is too large")
        content = json.loads(path.read_bytes().decode())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise BadHeader(path, "cannot be read as JSON") from error
    if not isinstance(content, dict):
        raise BadHeader(path, "is not a JSON object")
    return content


def read_config(root: Path) -> dict[str, Any]:
    """``config.json``, else a pipeline's ``model_index.json``."""
    return read_json(root / "config.json") or read_json(root / "model_index.json")


def read_weights(root: Path) -> Weights:
    """The headers of a snapshot's weights. Raises ``BadHeader``."""
    tensors: list[TensorInfo] = []
    header = Header(tensors=())
    kind, unread = "none", 0
    for path in [root / name for name in _indexed(root)] or _weight_files(root):
        kind = FORMATS.get(path.suffix, path.suffix.removeprefix("."))
        if kind in READERS:
            header = READERS[kind](path)
            tensors += header.tensors
        else:
            unread += path.stat().st_size
    return Weights(tensors=tuple(tensors), unread=unread, metadata=header.metadata, format=kind)


def _indexed(root: Path) -> tuple[str, ...]:
    """The shards that an index at the top names. Raises ``BadHeader`` where one would lie elsewhere."""
    for index in INDEXES:
        weight_map = read_json(root / index).get("weight_map")
        if isinstance(weight_map, dict):
            names = sorted({str(name) for name in weight_map.values()})
            if any(Path(name).name != name or not name.endswith(".safetensors") for name in names):
                raise BadHeader(root / index, "names a shard outside the model's folder")
            return tuple(names)
    return ()


def _weight_files(root: Path) -> list[Path]:
    """Weights at the top, else those of a pipeline's parts; safetensors before the other formats."""
    for pattern in ("*.safetensors", "*/*.safetensors", "*.gguf", "model.bin", "*.onnx"):
        if found := sorted(root.glob(pattern)):
            return found
    return []


# ---------------------------------------------------------------- facts


def _architecture(config: dict[str, Any], weights: Weights) -> str:
    names = config.get("architectures")
    first = names[0] if isinstance(names, list) and names else None
    found = first or config.get("_class_name") or config.get("model_type") or weights.metadata.get("general.architecture")
    return str(found or "unknown")[:200]


def _parameters(weights: Weights, config: dict[str, Any]) -> int:
    """Elements in the files; an output layer that is tied to the input's, and stored all the same, counts once."""
    total = sum(tensor.elements for tensor in weights.tensors)
    if not _text_config(config).get("tie_word_embeddings", False):
        return total
    return total - sum(tensor.elements for tensor in weights.tensors if tensor.name == "lm_head.weight")


def _stored_dtype(weights: Weights, config: dict[str, Any]) -> str:
    """The dtype that most bytes have; without a readable header the configuration's word for it."""
    sizes: Counter[str] = Counter()
    for tensor in weights.tensors:
        sizes[tensor.dtype] += tensor.size
    if sizes:
        return sizes.most_common(1)[0][0]
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")[:40]


def _load_bytes(spec: t.ModelSpec, stored: str, per_dtype: dict[str, int], weights: Weights, cache: int) -> int:
    """Weights in the dtype they are loaded in, a full context's cache, and the libraries themselves."""
    wanted = stored if spec.dtype == "auto" else spec.dtype
    in_file = sum(tensor.size for tensor in weights.tensors)
    return min(per_dtype.get(wanted, in_file) + weights.unread + cache + RUNTIME_BYTES, MAX_TOTAL)


def context_length(root: Path, config: dict[str, Any], weights: Weights, limit: int | None) -> int | None:
    """Tokens that fit: what the model was made for, or less where ``limit`` says so."""
    text = _text_config(config)
    found = next((value for key in CONTEXT_KEYS if (value := _number(text, key))), None)
    if found is None:
        keys = (key for key in weights.metadata if key.endswith(".context_length"))
        found = next((value for key in keys if (value := _number(weights.metadata, key))), None)
    if found is None:
        longest = _number(read_json(root / "tokenizer_config.json"), "model_max_length")
        found = longest if longest and longest < UNLIMITED else None
    return min(found, limit) if found and limit else found or limit


def cache_bytes(spec: t.ModelSpec, config: dict[str, Any], context: int | None) -> int:
    """Bytes that the text engine keeps for keys and values; 0 where the model has no such cache."""
    context_bytes = _context_bytes(config, context)
    engine = spec.options.get("engine")
    told = engine.get("cache_bytes") if isinstance(engine, dict) else None
    wanted = told if isinstance(told, int) and told > 0 else USUAL_CACHE
    return min(max(context_bytes, wanted), context_bytes * USUAL_SEQUENCES, MAX_TOTAL)


def _context_bytes(config: dict[str, Any], context: int | None) -> int:
    """Keys and values of one full context, two bytes a number."""
    text = _text_config(config)
    layers = _number(text, "num_hidden_layers", "n_layer", "num_layers")
    heads = _number(text, "num_attention_heads", "n_head", "num_heads")
    width = _number(text, "hidden_size", "n_embd", "d_model")
    if not (layers and heads and width and context):
        return 0
    per_head = _number(text, "head_dim") or width // heads
    shared = _number(text, "num_key_value_heads") or heads
    return min(2 * layers * shared * per_head * context * DTYPE_BYTES["bfloat16"], MAX_TOTAL)


def has_chat_template(root: Path, weights: Weights) -> bool:
    if (root / "chat_template.jinja").is_file() or "tokenizer.chat_template" in weights.metadata:
        return True
    return any(read_json(root / name).get("chat_template") for name in ("tokenizer_config.json", "chat_template.json"))


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a multimodal model's configuration that tells of its language model, over the whole."""
    inner = config.get("text_config")
    return config | inner if isinstance(inner, dict) else config


def _number(config: dict[str, Any], *keys: str) -> int | None:
    """The first of ``keys`` that holds a whole number from 1 to 2^31."""
    for key in keys:
        value = config.get(key)
        if type(value) is int and 0 < value <= MAX_NUMBER:
            return value
    return None
