"""What a model's own files say about making a vector: the layout of sentence-transformers, read without that library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from handlers.analyze import read_json
from handlers.encoding.families import is_decoder
from handlers.encoding.options import EmbeddingOptions
from handlers.headers import BadHeader

MAX_MODULES = 16
MAX_FILE = 2**20
POOLING = ("cls", "max", "mean", "mean_sqrt_len", "weightedmean", "lasttoken")
"""In the order in which several are joined."""
_FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
_LENGTH_FILES = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid")


class Dense(Struct, frozen=True, kw_only=True):
    """A linear layer behind the pooling; its weights are in ``folder``."""

    folder: str
    activation: str


Step = Dense | Literal["normalize"]


class Layout(Struct, frozen=True, kw_only=True):
    """From a model's tokens to its vector. ``max_tokens`` and ``truncate_dim`` are None where the files do not say.

    ``matryoshka``: the lengths to which a vector may be cut; True for any, False for none.
    """

    pooling: tuple[str, ...]
    include_prompt: bool = True
    steps: tuple[Step, ...] = ("normalize",)
    max_tokens: int | None = None
    lower_case: bool = False
    strip: bool = False
    prompts: dict[str, str] = {}
    default_prompt: str | None = None
    matryoshka: bool | tuple[int, ...] = False
    truncate_dim: int | None = None


def read_layout(root: Path, options: EmbeddingOptions) -> Layout:
    """The files' word, and the operator's over it. Raises ``BadHeader`` for what cannot be followed."""
    config = read_json(root / "config.json")
    told = read_json(root / "config_sentence_transformers.json")
    modules = _modules(root)
    pooling, include_prompt = _pooling(root, modules, str(config.get("model_type")))
    steps = tuple(_steps(root, modules)) if modules else ("normalize",)
    lengths = _lengths(root)
    truncate_dim = _count(told.get("truncate_dim"))
    return Layout(
        pooling=(options.pooling,) if options.pooling else pooling,
        include_prompt=include_prompt,
        steps=_normalized(steps, options.normalize),
        max_tokens=_count(lengths.get("max_seq_length")),
        lower_case=lengths.get("do_lower_case") is True,
        strip=bool(modules),
        prompts=_prompts(told, options),
        default_prompt=options.default_prompt or _text(told.get("default_prompt_name")),
        matryoshka=_matryoshka(config, truncate_dim, options),
        truncate_dim=truncate_dim,
    )


# ---------------------------------------------------------------- modules


def _modules(root: Path) -> list[tuple[str, str]]:
    """Kind and folder of each module, in order; empty where the model is no sentence-transformer."""
    path = root / "modules.json"
    if not path.is_file():
        return []
    try:
        if path.stat().st_size > MAX_FILE:
            raise BadHeader(path, "is too large")
        entries: Any = msgspec.json.decode(path.read_bytes())
        modules = [(str(entry["type"]).rpartition(".")[2], str(entry["path"])) for entry in entries]
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError) as error:
        raise BadHeader(path, "cannot be read") from error
    _check_modules(path, modules)
    return modules


def _check_modules(path: Path, modules: list[tuple[str, str]]) -> None:
    if not modules or len(modules) > MAX_MODULES or modules[0] != ("Transformer", ""):
        raise BadHeader(path, "must begin with a Transformer in the model's own folder")
    for kind, folder in modules[1:]:
        if kind not in ("Pooling", "Dense", "Normalize"):
            raise BadHeader(path, f"has a module of the kind '{kind[:60]}', which is not supported")
        if Path(folder).name != folder:
            raise BadHeader(path, "names a folder outside the model's")
    if [kind for kind, _ in modules].count("Pooling") > 1 or "Pooling" in [kind for kind, _ in modules[2:]]:
        raise BadHeader(path, "must have one Pooling, right behind the Transformer")


def _pooling(root: Path, modules: list[tuple[str, str]], model_type: str) -> tuple[tuple[str, ...], bool]:
    """How tokens become one vector, and whether a prompt's tokens count."""
    folder = next((folder for kind, folder in modules if kind == "Pooling"), None)
    if folder is None:
        return ("lasttoken" if is_decoder(model_type) else "mean",), True
    path = root / folder / "config.json"
    config = read_json(path)
    named = config.get("pooling_mode")
    chosen = {named} if isinstance(named, str) else set(named) if isinstance(named, list) else None
    if chosen is None:
        chosen = {mode for mode, flag in _FLAGS.items() if config.get(flag) is True}
    modes = tuple(mode for mode in POOLING if mode in chosen)
    if not modes or len(modes) != len(chosen):
        raise BadHeader(path, "names no pooling that is known")
    return modes, config.get("include_prompt") is not False


def _steps(root: Path, modules: list[tuple[str, str]]) -> Iterator[Step]:
    for kind, folder in modules:
        if kind == "Normalize":
            yield "normalize"
        if kind == "Dense":
            path = root / folder / "config.json"
            activation = str(read_json(path).get("activation_function", "Tanh")).rpartition(".")[2]
            if activation not in ACTIVATIONS:
                raise BadHeader(path, f"has the activation '{activation[:60]}', which is not supported")
            if not (root / folder / "model.safetensors").is_file():
                raise BadHeader(root / folder / "model.safetensors", "is missing")
            yield Dense(folder=folder, activation=activation)


def _normalized(steps: tuple[Step, ...], wanted: bool | None) -> tuple[Step, ...]:
    if wanted is None:
        return steps
    others = tuple(step for step in steps if step != "normalize")
    return (*others, "normalize") if wanted else others


# ---------------------------------------------------------------- settings


def _lengths(root: Path) -> dict[str, Any]:
    found = (read_json(root / f"sentence_{name}_config.json") for name in _LENGTH_FILES)
    return next((content for content in found if content), {})


def _prompts(told: dict[str, Any], options: EmbeddingOptions) -> dict[str, str]:
    if options.prompts is not None:
        return options.prompts
    prompts = told.get("prompts")
    return {key: text for key, text in prompts.items() if isinstance(text, str)} if isinstance(prompts, dict) else {}


def _matryoshka(config: dict[str, Any], truncate_dim: int | None, options: EmbeddingOptions) -> bool | tuple[int, ...]:
    """A model that is cut by its own files, or that names lengths, was trained for it."""
    if options.matryoshka is not None:
        return options.matryoshka if isinstance(options.matryoshka, bool) else tuple(options.matryoshka)
    named = config.get("matryoshka_dimensions")
    if isinstance(named, list) and (lengths := tuple(number for number in named if _count(number))):
        return lengths
    return config.get("is_matryoshka") is True or truncate_dim is not None


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 < value < 2**31 else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
