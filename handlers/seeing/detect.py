"""Where in a picture which things are."""

from __future__ import annotations

from typing import Any

from handlers import types as t
from handlers.seeing.backend import Backend, View, Wanted, best
from handlers.seeing.pictures import clipped


class Detector(Backend):
    """Models that find things of the kinds they were trained on."""

    kept = ("logits", "pred_boxes")

    def usual_threshold(self, task: t.VisionTask) -> float | None:
        return 0.5

    def find(self, output: Any, view: View, wanted: Wanted) -> t.LabelResult:
        return found_boxes(self, output, view, wanted)


def found_boxes(backend: Backend, output: Any, view: View, wanted: Wanted) -> t.LabelResult:
    """By the kinds that the model's configuration names."""
    found = backend.processor.post_process_object_detection(output, wanted.threshold or 0.0, sizes_of(view))[0]
    names = backend.model.config.id2label
    return best(boxes_of(found, [str(names[int(number)]) for number in found["labels"]], view), wanted)


def sizes_of(view: View) -> Any:
    """The height and the width of the picture that was sent, as the libraries want them: boxes are in its pixels."""
    import torch

    width, height = view.picture.full_size
    return torch.tensor([[height, width]])


def boxes_of(found: dict[str, Any], names: list[str], view: View) -> list[t.Label]:
    """Findings as a library gives them: ``scores`` and ``boxes``, corner by corner."""
    return [
        t.Label(label=name, score=score, box=clipped(box, view.picture))
        for name, score, box in zip(names, found["scores"].tolist(), found["boxes"].tolist(), strict=True)
    ]
