"""What a picture is of, by the labels that a model was trained on."""

from __future__ import annotations

from typing import Any

from handlers import types as t
from handlers.seeing.backend import Backend, View, Wanted, best


class Classifier(Backend):
    """As the library's own pipeline reads the model: likelihoods that exclude one another, unless it says otherwise."""

    top_k = 5

    def find(self, output: Any, view: View, wanted: Wanted) -> t.LabelResult:
        scores = self._scores(output.logits[0]).tolist()
        names = self.model.config.id2label
        least = wanted.threshold
        labels = [
            t.Label(label=str(names[i]), score=score) for i, score in enumerate(scores) if least is None or score >= least
        ]
        return best(labels, wanted)

    def _scores(self, logits: Any) -> Any:
        config = self.model.config
        if config.problem_type == "regression":
            return logits
        apart = config.problem_type == "multi_label_classification" or config.num_labels == 1
        return logits.sigmoid() if apart else logits.softmax(-1)
