"""Loading each role from a local snapshot: safetensors only, no code of the repository."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct

from handlers import placement
from handlers import types as t
from handlers.encoding import precision
from handlers.encoding.encoder import Classifier, CrossEncoder, TextEncoder, bears_padding, by_length
from handlers.encoding.families import Role
from handlers.encoding.layout import Layout, read_layout
from handlers.encoding.options import EmbeddingOptions
from handlers.encoding.pooling import Head
from handlers.encoding.texts import LANE as TEXT
from handlers.encoding.texts import TextReader, Tokenizer
from handlers.encoding.towers import LANE as IMAGE
from handlers.encoding.towers import ImageTower, PictureReader, TextTower
from handlers.loading import load_errors, options_of
from openai_compat.errors import ModelUnavailable

logger = logging.getLogger(__name__)
_LOCAL = {"local_files_only": True, "trust_remote_code": False}
_UNKNOWN_LIMIT = 512
_UNLIMITED = 1 << 30
_BATCH_TOKENS = {"cpu": 512, "mps": 8192, "cuda": 32_768}
_ROBERTAS = ("roberta", "camembert", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "mpnet")
"""Their positions begin behind the padding's number, so that fewer are left."""


Lane = Callable[[list[Any]], list[Any]]


class Loaded(Struct, frozen=True, kw_only=True):
    """A model in memory: what runs each lane, and what reads inputs for it. ``dimensions`` is a vector's full length."""

    lanes: dict[str, Lane]
    budget: int
    layout: Layout
    dimensions: int
    tokenizer: Tokenizer | None = None
    texts: TextReader | None = None
    pictures: PictureReader | None = None

    def run(self, lane: str, inputs: list[Any]) -> list[Any]:
        return self.lanes[lane](inputs)


def load(spec: t.ModelSpec, role: Role, report: t.LoadReport) -> Loaded:
    """Raises ``ModelUnavailable`` with a reason a client may read, ``InsufficientMemory`` where the device is full."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    options = options_of(spec, EmbeddingOptions)
    loaders = {"text": _text, "rank": _rank, "towers": _towers, "text_tower": _towers, "image_tower": _towers}
    with load_errors(spec):
        return loaders[role](spec, options, role, report)


class Judging(Struct, frozen=True, kw_only=True):
    """A classifier in memory; ``reader`` makes its inputs."""

    lane: Lane
    budget: int
    reader: Tokenizer

    def run(self, lane: str, inputs: list[Any]) -> list[Any]:
        return self.lane(inputs)


def load_classifier(spec: t.ModelSpec, batch_tokens: int | None, report: t.LoadReport) -> Judging:
    """Raises as ``load``."""
    from transformers import AutoModelForSequenceClassification
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    options = EmbeddingOptions(batch_tokens=batch_tokens)
    with load_errors(spec):
        config, tokenizer = _config(spec), _tokenizer(spec, report)
        model = _model(spec, AutoModelForSequenceClassification, report)
        reader = _tokens(tokenizer, options, _limit(spec, config, tokenizer, Layout(pooling=("cls",))))
        model.config.pad_token_id = _pad(tokenizer)
        classifier = Classifier(model, pad=_pad(tokenizer))
        samples = [item.inputs for text in precision.SAMPLES for item in reader.window_items(text)]
        _use_threads(spec, model, lambda: classifier.run(samples), report)
        return Judging(lane=_lane(spec, classifier.run, samples), budget=_budget(options, model.device), reader=reader)


# ---------------------------------------------------------------- roles


def _text(spec: t.ModelSpec, options: EmbeddingOptions, role: Role, report: t.LoadReport) -> Loaded:
    from transformers import AutoModel, T5EncoderModel

    layout = read_layout(Path(spec.path), options)
    config, tokenizer = _config(spec), _tokenizer(spec, report)
    kind = T5EncoderModel if config.model_type in ("t5", "mt5") else AutoModel

    def read() -> Any:
        return _model(spec, kind, report)

    model = read()
    limit = _limit(spec, config, tokenizer, layout)
    reader = _tokens(tokenizer, options, limit)
    texts = TextReader(reader, layout, options)

    def encode(used: Any) -> TextEncoder:
        return TextEncoder(used, Head(layout, Path(spec.path), used.device), pad=_pad(tokenizer))

    samples = [item.inputs for item in texts.items(t.EmbedRequest(texts=precision.SAMPLES, truncate=True))]

    def sample() -> list[Any]:
        return encode(model).run(samples)

    if spec.dtype == "auto" and _is_full(model) and precision.gains(model.device, config.hidden_size):
        report("measuring dtypes")
        model = precision.halve(model, sample, read)
    report(f"running in {str(model.dtype).removeprefix('torch.')}")
    _use_threads(spec, model, sample, report)
    return Loaded(
        lanes={TEXT: _lane(spec, encode(model).run, samples)},
        budget=_budget(options, model.device),
        layout=layout,
        dimensions=len(sample()[0]),
        tokenizer=reader,
        texts=texts,
    )


def _rank(spec: t.ModelSpec, options: EmbeddingOptions, role: Role, report: t.LoadReport) -> Loaded:
    from transformers import AutoModelForSequenceClassification

    layout = Layout(pooling=("cls",))
    config, tokenizer = _config(spec), _tokenizer(spec, report)
    model = _model(spec, AutoModelForSequenceClassification, report)
    reader = _tokens(tokenizer, options, _limit(spec, config, tokenizer, layout))
    encoder = CrossEncoder(model, pad=_pad(tokenizer))
    samples = reader.encode_pairs(precision.SAMPLES[0], precision.SAMPLES, truncate=True, param="documents")
    _use_threads(spec, model, lambda: encoder.run(samples), report)
    budget = _budget(options, model.device)
    return Loaded(lanes={TEXT: _lane(spec, encoder.run, samples)}, budget=budget, layout=layout, dimensions=1, tokenizer=reader)


def _towers(spec: t.ModelSpec, options: EmbeddingOptions, role: Role, report: t.LoadReport) -> Loaded:
    import transformers

    config = _config(spec)
    layout = read_layout(Path(spec.path), options)
    model = _model(spec, getattr(transformers, config.architectures[0]), report)
    lanes: dict[str, Lane] = {}
    reader = texts = pictures = None
    if role != "image_tower":
        lanes[TEXT], reader = _text_tower(spec, options, model, report)
        texts = TextReader(reader, layout, options)
        samples = [item.inputs for item in texts.items(t.EmbedRequest(texts=precision.SAMPLES, truncate=True))]
    if role != "text_tower":
        lanes[IMAGE], pictures = _image_tower(spec, model)
        samples = [pictures.blank()]
    step = partial(lanes[IMAGE if pictures else TEXT], samples)
    _use_threads(spec, model, step, report)
    return Loaded(
        lanes=lanes,
        budget=_budget(options, model.device),
        layout=layout,
        dimensions=len(step()[0]),
        tokenizer=reader,
        texts=texts,
        pictures=pictures,
    )


def _text_tower(spec: t.ModelSpec, options: EmbeddingOptions, model: Any, report: t.LoadReport) -> tuple[Lane, Tokenizer]:
    tokenizer = _tokenizer(spec, report)
    config = model.config.get_text_config()
    reader = _tokens(tokenizer, options, _limit(spec, config, tokenizer, Layout(pooling=("cls",))))
    pad_to = config.max_position_embeddings if "siglip" in config.model_type else None
    tower = TextTower(model, pad=_pad(tokenizer), pad_to=pad_to, whole=hasattr(model, "get_text_features"))
    return tower.run, reader


def _image_tower(spec: t.ModelSpec, model: Any) -> tuple[Lane, PictureReader]:
    from transformers import AutoImageProcessor

    vision = getattr(model.config, "vision_config", model.config)
    processor = AutoImageProcessor.from_pretrained(spec.path, **_LOCAL)
    pictures = PictureReader(processor, patches=(vision.image_size // vision.patch_size) ** 2)
    return ImageTower(model, pictures.read, whole=hasattr(model, "get_image_features")).run, pictures


# ---------------------------------------------------------------- parts


def _config(spec: t.ModelSpec) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(spec.path, **_LOCAL)


def _tokenizer(spec: t.ModelSpec, report: t.LoadReport) -> Any:
    from transformers import AutoTokenizer

    report("reading the tokenizer")
    return AutoTokenizer.from_pretrained(spec.path, **_LOCAL)


def _tokens(tokenizer: Any, options: EmbeddingOptions, limit: int) -> Tokenizer:
    append = tokenizer.eos_token_id if options.append_eos else None
    if options.append_eos and append is None:
        raise ModelUnavailable("options.append_eos cannot be used: the tokenizer has no end token.")
    return Tokenizer(tokenizer, limit=limit, truncate=options.truncate, append=append)


def _model(spec: t.ModelSpec, kind: Any, report: t.LoadReport) -> Any:
    """Raises ``ModelUnavailable`` where weights are missing that a vector or score is made with."""
    device = placement.device_of(spec)
    dtype = placement.dtype_of(spec, str(_config(spec).dtype or "float32").removeprefix("torch."), device)
    total = sum(file.stat().st_size for file in Path(spec.path).glob("*.safetensors"))
    report("placing the weights", 0, total)
    model, info = kind.from_pretrained(
        spec.path, dtype=dtype, device_map={"": device}, use_safetensors=True, output_loading_info=True, **_LOCAL
    )
    missing = [name for name in info["missing_keys"] if not name.partition(".")[0].startswith("pooler")]
    if missing or info["mismatched_keys"]:
        raise ModelUnavailable(f"Weights of '{spec.id}' are missing or have the wrong shape.")
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    report("placing the weights", total, total)
    return model.eval()


def _lane(spec: t.ModelSpec, run: Lane, samples: list[Any]) -> Lane:
    """Never lets a text's vector hang on its neighbours."""
    if bears_padding(run, samples):
        return run
    logger.info("'%s' does not bear padding: only texts of one length are run together", spec.id)
    return partial(by_length, run)


def _is_full(model: Any) -> bool:
    return str(model.dtype) == "torch.float32"


def _limit(spec: t.ModelSpec, config: Any, tokenizer: Any, layout: Layout) -> int:
    """Tokens a text may have: the operator's number, else the files', and never more than the model has positions."""
    positions = getattr(config, "max_position_embeddings", None) or _UNLIMITED
    if config.model_type in _ROBERTAS:
        positions -= (config.pad_token_id or 0) + 1
    made_for = tokenizer.model_max_length if tokenizer.model_max_length < _UNLIMITED else positions
    limit = spec.context_length or layout.max_tokens or made_for
    return min(limit, positions) if min(limit, positions) < _UNLIMITED else _UNKNOWN_LIMIT


def _pad(tokenizer: Any) -> int:
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0)


def _budget(options: EmbeddingOptions, device: Any) -> int:
    return options.batch_tokens or _BATCH_TOKENS.get(device.type, _BATCH_TOKENS["cpu"])


def _use_threads(spec: t.ModelSpec, model: Any, step: Callable[[], Any], report: t.LoadReport) -> None:
    if model.device.type == "cpu":
        report("measuring threads")
        placement.set_threads(spec, step)
