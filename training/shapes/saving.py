"""Models as they are committed: half-precision weights that load in single precision."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from training.shapes.scenes import SIZE

GREY = [0.5, 0.5, 0.5]


def save(out: Path, model: Any, *others: Any) -> None:
    """Write ``model`` to the folder ``out``, with its tokenizer and image processor."""
    copy.deepcopy(model).half().save_pretrained(out)
    single_precision(out)
    for other in others:
        other.save_pretrained(out)


def begun(model: Any, out: Path, *, resume: bool) -> Any:
    """``model`` as it is, or with the weights that an earlier training left in ``out``."""
    return type(model).from_pretrained(out).train() if resume else model


def single_precision(folder: Path) -> None:
    """Have transformers load the half-precision weights as single precision: a CPU is slow, or unable, in the other."""
    _change(folder / "config.json", {"dtype": "float32"})


def without_origin(folder: Path) -> None:
    """Forget the place that a part of a pipeline was loaded from to be learnt on; it is one of this machine."""
    _change(folder / "config.json", {})


def _change(path: Path, more: dict[str, str]) -> None:
    config = json.loads(path.read_text()) | more
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2) + "\n")


def processing() -> dict[str, Any]:
    """The settings of every image processor here: squared to the size that was trained, pixels from -1 to 1."""
    return {"size": {"height": SIZE, "width": SIZE}, "do_normalize": True, "image_mean": GREY, "image_std": GREY}


def labels(names: tuple[str, ...]) -> dict[str, Any]:
    """The settings by which a configuration names its classes."""
    return {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
