"""A pipeline's folder as ``model_index.json`` describes it: its components, what their files lack, and their weights.

A component names a library and a class. diffusers would import any library that is installed, so only its own, transformers
and the few classes beside its pipelines pass; a whole pipeline as a component would bring an index that nobody has checked.
Imports no heavy library.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from handlers.analyze import read_json
from handlers.headers import BadHeader, TensorInfo, read_safetensors
from handlers.painting.families import filmers_of, painters_of

INDEX = "model_index.json"
LIBRARIES = ("diffusers", "transformers")
# classes that stand beside a pipeline of diffusers, by the folder they stand in
BESIDE = {
    "deepfloyd_if": ("IFSafetyChecker", "IFWatermarker"),
    "glm_image": ("GlmImageForConditionalGeneration", "GlmImageProcessor"),
    "ideogram4": ("Ideogram4PromptEnhancerHead",),
    "kandinsky": ("MultilingualCLIP",),
    "kolors": ("ChatGLMModel", "ChatGLMTokenizer"),
    "latent_diffusion": ("LDMBertModel",),
    "ltx": ("LTXLatentUpsamplerModel",),
    "ltx2": ("LTX2DurationHead", "LTX2LatentUpsamplerModel", "LTX2TextConnectors", "LTX2Vocoder", "LTX2VocoderWithBWE"),
    "prx": ("T5GemmaEncoder",),
    "stable_diffusion": ("CLIPImageProjection", "StableDiffusionSafetyChecker", "StableUnCLIPImageNormalizer"),
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
_PROCESSOR = re.compile(r".*(FeatureExtractor|Processor)(Fast|Pil)?")
_WEIGHTS = ("diffusion_pytorch_model", "model")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tokenizer_config.json")
_WIDTHS = ("channels", "_dim", "hidden_size", "vocab_size")
MAX_COMPONENTS = 40


class Component(Struct, frozen=True):
    """``needs``: alternatives, one of which its folder must hold; ``weights``: whether it has any."""

    name: str
    library: str
    type: str
    needs: tuple[str, ...]
    weights: bool


class Weights(Struct, frozen=True):
    """The headers of one component's weights; ``variant`` is ``fp16`` of files that end in ``.fp16.safetensors``."""

    component: str
    tensors: tuple[TensorInfo, ...]
    variant: str = ""

    @property
    def elements(self) -> int:
        return sum(tensor.elements for tensor in self.tensors)


def read_index(root: Path) -> tuple[str, tuple[Component, ...]]:
    """The pipeline's class and its components. Raises ``BadHeader`` for what may not or cannot be loaded."""
    path = root / INDEX
    index = read_json(path)
    name = index.get("_class_name")
    if not isinstance(name, str) or (painters_of(name) is None and filmers_of(name) is None):
        raise BadHeader(path, f"the pipeline {str(name)[:80]!r} is none that makes pictures or videos here")
    entries = {key: value for key, value in index.items() if isinstance(value, list) and not key.startswith("_")}
    found = tuple(_component(path, key, value) for key, value in entries.items() if len(value) == 2 and _is_named(value))
    if len(found) > MAX_COMPONENTS:
        raise BadHeader(path, f"it names more than {MAX_COMPONENTS} components")
    return name, found


def missing(root: Path) -> Iterator[str]:
    """What the components lack, one line each."""
    try:
        _, components = read_index(root)
        for component in components:
            yield from _missing(root, component)
    except BadHeader as error:
        yield error.message


def read_weights(root: Path) -> tuple[Weights, ...]:
    """The headers of every component's weights. Raises ``BadHeader``."""
    _, components = read_index(root)
    return tuple(_read(root, component) for component in components if component.weights)


def stored_dtype(weights: tuple[Weights, ...]) -> str:
    """What most bytes are."""
    sizes: Counter[str] = Counter()
    for part in weights:
        for tensor in part.tensors:
            sizes[tensor.dtype] += tensor.size
    return sizes.most_common(1)[0][0] if sizes else "float32"


def variant_of(root: Path, components: tuple[Component, ...]) -> str | None:
    """The variant to load: None for plain names, and one like ``fp16`` where a component has no other weights."""
    found = (variant for c in components if c.weights for _, variant in (_files(root / c.name),) if variant)
    return next(found, None)


def _is_named(value: list[Any]) -> bool:
    """An optional component that the checkpoint has not is a pair of nulls; other settings may be lists too."""
    return all(isinstance(part, str) for part in value)


def _component(path: Path, name: str, value: list[str]) -> Component:
    library, type = value
    if not all(_NAME.fullmatch(part) for part in (name, type)):
        raise BadHeader(path, f"the component {name[:80]!r} has no plain name")
    if library not in LIBRARIES and type not in BESIDE.get(library, ()):
        raise BadHeader(path, f"the component {name!r} is of {library[:80]!r}, which is not loaded here")
    if "Pipeline" in type:
        raise BadHeader(path, f"the component {name!r} is a pipeline itself, which is not loaded here")
    needs, weights = _needs(type)
    return Component(name, library, type, needs, weights)


def _needs(type: str) -> tuple[tuple[str, ...], bool]:
    """The files of a class by the end of its name, as diffusers and transformers name theirs."""
    if type.endswith("Scheduler"):
        return ("scheduler_config.json",), False
    if re.fullmatch(r".*Tokenizer(Fast)?", type):
        return _TOKENIZERS, False
    if _PROCESSOR.fullmatch(type):
        return ("preprocessor_config.json", "processor_config.json"), False
    return ("config.json",), type != "IFWatermarker"


def _missing(root: Path, component: Component) -> Iterator[str]:
    folder = root / component.name
    if not any((folder / name).is_file() for name in component.needs):
        yield f"{component.name}/{component.needs[0]}: is missing"
    if not component.weights:
        return
    files, _ = _files(folder)
    if not files:
        yield f"{component.name}/{_stems(component)[0]}.safetensors: is missing"
    yield from (f"{component.name}/{file.name}: is missing, and the index names it" for file in files if not file.is_file())


def _stems(component: Component) -> tuple[str, ...]:
    return _WEIGHTS if component.library != "transformers" else _WEIGHTS[::-1]


def _files(folder: Path) -> tuple[list[Path], str]:
    """A component's weight files, those with plain names before a variant's, and the variant."""
    for stem in _WEIGHTS:
        if (shards := _shards(folder / f"{stem}.safetensors.index.json")) is not None:
            return shards, ""
        if (folder / f"{stem}.safetensors").is_file():
            return [folder / f"{stem}.safetensors"], ""
    for stem in _WEIGHTS:
        for path in sorted(folder.glob(f"{stem}.*.safetensors")):
            variant = path.name.removeprefix(f"{stem}.").removesuffix(".safetensors")
            if _NAME.fullmatch(variant):
                return [path], variant
        for index in sorted(folder.glob(f"{stem}.safetensors.index.*.json")):
            variant = index.name.removeprefix(f"{stem}.safetensors.index.").removesuffix(".json")
            if _NAME.fullmatch(variant):
                return _shards(index) or [], variant
    return [], ""


def _shards(index: Path) -> list[Path] | None:
    """The files that an index names; None where there is no index. Raises ``BadHeader`` where one would lie elsewhere."""
    if not index.is_file():
        return None
    weight_map = read_json(index).get("weight_map")
    names = sorted({str(name) for name in weight_map.values()}) if isinstance(weight_map, dict) else []
    if not names or any(Path(name).name != name or not name.endswith(".safetensors") for name in names):
        raise BadHeader(index, "names no shards in its own folder")
    return [index.parent / name for name in names]


def _read(root: Path, component: Component) -> Weights:
    files, variant = _files(root / component.name)
    tensors = tuple(tensor for file in files for tensor in read_safetensors(file).tensors)
    found = Weights(component.name, tensors, variant)
    if tensors:
        _check_sizes(root / component.name / "config.json", found)
    return found


def _check_sizes(path: Path, weights: Weights) -> None:
    """A library builds what a configuration says before it reads a weight: more layers than tensors would take for ever."""
    for key, value in read_json(path).items():
        most = len(weights.tensors) if "layers" in key else weights.elements if key.endswith(_WIDTHS) else None
        numbers = [number for number in (value if isinstance(value, list) else [value]) if type(number) is int]
        if most is not None and any(number > most for number in numbers):
            raise BadHeader(path, f"{weights.component}'s {key[:80]!r} is more than its weights have")
