"""Which pixels of a picture belong to what."""

from __future__ import annotations

from typing import Any

from handlers import types as t
from handlers.seeing.backend import Backend, View, Wanted, best
from handlers.seeing.detect import found_boxes
from handlers.seeing.options import Subtask
from handlers.seeing.pictures import mask_and_box

MOST_NUMBERS = 1 << 27
"""Of the libraries' largest array, which has one for each pixel of the mask and each class or query: half a gigabyte."""


class Segmenter(Backend):
    """One finding a segment: of a panoptic or instance segmentation where the model can do one, else a class each."""

    kept = ("logits", "class_queries_logits", "masks_queries_logits", "pred_boxes", "pred_masks")

    def usual_threshold(self, task: t.VisionTask) -> float | None:
        return 0.0 if self._kind() == "semantic" else 0.9

    def find(self, output: Any, view: View, wanted: Wanted) -> t.LabelResult:
        kind = self._kind()
        if kind == "semantic":
            return best(self._classes(output, view, wanted), wanted)
        return best(self._segments(kind, output, view, wanted), wanted)

    def _kind(self) -> Subtask:
        """As the library's own pipeline chooses, unless the operator says otherwise."""
        if self.options.segmentation is not None:
            return self.options.segmentation
        kinds: tuple[Subtask, ...] = ("panoptic", "instance")
        return next((kind for kind in kinds if hasattr(self.processor, f"post_process_{kind}_segmentation")), "semantic")

    def _segments(self, kind: Subtask, output: Any, view: View, wanted: Wanted) -> list[t.Label]:
        """The threshold is the score that a query must have to take part at all."""
        divide = getattr(self.processor, f"post_process_{kind}_segmentation")
        found = divide(output, threshold=wanted.threshold or 0.0, target_sizes=[self._size(output, view)], **_OVERLAP)[0]
        names, numbers = self.model.config.id2label, found["segmentation"].numpy()
        return [
            label
            for segment in found["segments_info"]
            if (label := _label(str(names[segment["label_id"]]), segment["score"], numbers == segment["id"], view))
        ]

    def _classes(self, output: Any, view: View, wanted: Wanted) -> list[t.Label]:
        import numpy as np

        divide = self.processor.post_process_semantic_segmentation
        numbers = divide(output, target_sizes=[self._size(output, view)])[0].numpy()
        scores = _class_scores(divide(output, return_segmentation_scores=True)[0])
        names, least = self.model.config.id2label, wanted.threshold or 0.0
        return [
            label
            for number in np.unique(numbers).tolist()
            if number in names and scores[number] >= least
            if (label := _label(str(names[number]), scores[number], numbers == number, view))
        ]

    def _size(self, output: Any, view: View) -> tuple[int, int]:
        """Height and width of the masks: the picture's, or less where memory would not bear that."""
        layers = max(value.shape[1] if value.dim() == 4 else max(value.shape[1:]) for value in output.values())
        height, width = view.picture.height, view.picture.width
        factor = 1
        while layers * (height // factor) * (width // factor) > MOST_NUMBERS:
            factor += 1
        return max(1, height // factor), max(1, width // factor)


class DetectingSegmenter(Segmenter):
    """A detector that draws a mask for each of its boxes."""

    def usual_threshold(self, task: t.VisionTask) -> float | None:
        return 0.5 if task == "detect" else super().usual_threshold(task)

    def find(self, output: Any, view: View, wanted: Wanted) -> t.LabelResult:
        if wanted.task == "detect":
            return found_boxes(self, output, view, wanted)
        return super().find(output, view, wanted)


_OVERLAP = {"mask_threshold": 0.5, "overlap_mask_area_threshold": 0.5}


def _label(name: str, score: float, where: Any, view: View) -> t.Label | None:
    found = mask_and_box(where, view.picture)
    return None if found is None else t.Label(label=name, score=score, box=found[1], mask=found[0])


def _class_scores(found: Any) -> list[float]:
    """Of each class the mean likelihood where it is the likeliest, as fine as the model itself sees; else the highest."""
    maps = found.segmentation_scores
    shares = maps.softmax(0)
    winners = shares.argmax(0)
    return [
        float(layer[winners == number].mean() if bool((winners == number).any()) else layer.max())
        for number, layer in enumerate(shares)
    ]
