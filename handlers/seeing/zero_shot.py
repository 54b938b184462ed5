"""Models that look for whatever they are told: each request brings its labels."""

from __future__ import annotations

from typing import Any

from handlers import types as t
from handlers.seeing import loading
from handlers.seeing.backend import Backend, View, Wanted, best
from handlers.seeing.detect import boxes_of, sizes_of
from openai_compat.errors import InvalidRequest

_SIGLIP_WORDS = 64  # what it was trained on, padding and all; also what the library's pipeline gives every one of its kin


class LabelRanker(Backend):
    """Which of the labels fits a picture best: CLIP and its kin, SigLIP."""

    kept = ("logits_per_image",)

    def load_parts(self, spec: t.ModelSpec) -> None:
        super().load_parts(spec)
        self._tokenizer = loading.part(spec, "AutoTokenizer")
        self._siglip = "siglip" in self.model.config.model_type

    def words(self, labels: tuple[str, ...], pictures: int) -> dict[str, Any]:
        texts = [self.options.label_template.replace("{}", label) for label in labels]
        length = {"padding": "max_length", "max_length": _SIGLIP_WORDS} if self._siglip else {"padding": True}
        return dict(self._tokenizer(texts, return_tensors="pt", truncation=True, **length))

    def find(self, output: Any, view: View, wanted: Wanted) -> t.LabelResult:
        logits = output.logits_per_image[0]
        scores = (logits.sigmoid() if self._siglip else logits.softmax(-1)).tolist()
        least = wanted.threshold or 0.0
        labels = [t.Label(label=label, score=score) for label, score in zip(view.labels, scores, strict=True) if score >= least]
        return best(labels, wanted)


class OpenDetector(Backend):
    """OWL-ViT and OWLv2: every label is a query of its own."""

    kept = ("logits", "pred_boxes")

    def usual_threshold(self, task: t.VisionTask) -> float | None:
        return 0.1

    def load_parts(self, spec: t.ModelSpec) -> None:
        self._both = loading.part(spec, "AutoProcessor")
        self.processor = self._both.image_processor

    def words(self, labels: tuple[str, ...], pictures: int) -> dict[str, Any]:
        return dict(self._both(text=[list(labels)] * pictures, return_tensors="pt", truncation=True))

    def find(self, output: Any, view: View, wanted: Wanted) -> t.LabelResult:
        threshold = wanted.threshold or 0.0
        found = self._both.post_process_grounded_object_detection(
            output, threshold=threshold, target_sizes=sizes_of(view), text_labels=[list(view.labels)]
        )[0]
        return best(boxes_of(found, found["text_labels"], view), wanted)


class PhraseDetector(OpenDetector):
    """Grounding DINO: the labels are one text, and each box is of one of its tokens."""

    def usual_threshold(self, task: t.VisionTask) -> float | None:
        return 0.25

    def words(self, labels: tuple[str, ...], pictures: int) -> dict[str, Any]:
        """Raises ``InvalidRequest`` where the text of all labels is longer than the model reads."""
        text = " ".join(f"{_plain(label)}." for label in labels)
        words = dict(self._both(text=[text] * pictures, return_tensors="pt", truncation=True))
        if self._owners(words["input_ids"][0].tolist())[-1] < len(labels) - 1:
            raise InvalidRequest("The labels together are longer than this model can read.", param="labels")
        return words

    def find(self, output: Any, view: View, wanted: Wanted) -> t.LabelResult:
        found = self.processor.post_process_object_detection(output, wanted.threshold or 0.0, sizes_of(view))[0]
        owners = self._owners(self.words(view.labels, 1)["input_ids"][0].tolist())
        names = [view.labels[min(owners[token], len(view.labels) - 1)] for token in found["labels"].tolist()]
        return best(boxes_of(found, names, view), wanted)

    def _owners(self, ids: list[int]) -> list[int]:
        """The place of each token's label: a stop ends one, and belongs to it."""
        stop = self._both.tokenizer.convert_tokens_to_ids(".")
        return [sum(one == stop for one in ids[:place]) for place in range(len(ids))]


def _plain(label: str) -> str:
    """Lower case, as the model was trained, and no stop that would end it."""
    return label.lower().replace(".", " ").strip()
