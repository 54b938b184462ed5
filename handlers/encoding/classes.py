"""What a classifier's labels mean in OpenAI's categories, and from which score on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from msgspec import Meta, Struct

from handlers.encoding.options import Count
from handlers.types import CATEGORIES, Category, ModelSpec, Verdict
from openai_compat.errors import ModelUnavailable

Share = Annotated[float, Meta(ge=0, le=1)]
Meanings = Mapping[str, tuple[Category, ...]]
_USUAL_THRESHOLD = 0.5
_SHOWN = 8  # labels in an error's words
_SPELLING = re.compile(r"[\s_/-]+")
_KNOWN: Meanings = {
    **{re.sub("[/-]", " ", category): (category,) for category in CATEGORIES},
    "toxic": ("harassment",),
    "toxicity": ("harassment",),
    "severe toxic": ("harassment",),
    "severe toxicity": ("harassment",),
    "offensive": ("harassment",),
    "abusive": ("harassment",),
    "abuse": ("harassment",),
    "bullying": ("harassment",),
    "insult": ("harassment",),
    "threat": ("harassment/threatening", "violence"),
    "threatening": ("harassment/threatening", "violence"),
    "identity hate": ("hate",),
    "identity attack": ("hate",),
    "hateful": ("hate",),
    "hate speech": ("hate",),
    "hatespeech": ("hate",),
    "obscene": ("sexual",),
    "sexual explicit": ("sexual",),
    "sexually explicit": ("sexual",),
    "porn": ("sexual",),
    "nsfw": ("sexual",),
    "suicide": ("self-harm",),
    "violent": ("violence",),
    # the hazards of MLCommons, as guard models number them; those that are in no category are left out
    "s1": ("violence", "illicit/violent"),
    "s2": ("illicit",),
    "s3": ("sexual",),
    "s4": ("sexual/minors", "sexual"),
    "s9": ("illicit/violent",),
    "s10": ("hate",),
    "s11": ("self-harm",),
    "s12": ("sexual",),
}
_SHORT: Meanings = {  # of models that have "HR" among their labels: OpenAI's categories, abbreviated
    "s": ("sexual",),
    "h": ("hate",),
    "v": ("violence",),
    "hr": ("harassment",),
    "sh": ("self-harm",),
    "s3": ("sexual/minors",),
    "h2": ("hate/threatening",),
    "v2": ("violence/graphic",),
}


class ClassifierOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``categories`` says of labels in which categories they are, and wins over what is known of them; ``threshold`` is the
    least score of what is flagged, of all categories or of each; ``batch_tokens`` is what one forward may have.
    """

    categories: dict[str, Category | tuple[Category, ...]] = {}
    threshold: Share | dict[Category, Share] = _USUAL_THRESHOLD
    batch_tokens: Count | None = None


class Judge:
    """Scores of labels → verdicts. Raises ``ModelUnavailable`` where no label means anything."""

    def __init__(self, spec: ModelSpec, labels: Sequence[str], options: ClassifierOptions) -> None:
        self._labels = tuple(labels)
        self._meanings = meanings_of(spec, labels, options)
        thresholds = options.threshold if isinstance(options.threshold, dict) else dict.fromkeys(CATEGORIES, options.threshold)
        self._thresholds = {category: thresholds.get(category, _USUAL_THRESHOLD) for category in CATEGORIES}

    def verdict(self, windows: Sequence[Sequence[float]]) -> Verdict:
        """Of one text, whose ``windows`` have a score for each label: the highest one counts."""
        highest = dict(zip(self._labels, map(max, zip(*windows, strict=True)), strict=True))
        scores: dict[Category, float] = {}
        for label, score in highest.items():
            for category in self._meanings.get(label, ()):
                scores[category] = max(score, scores.get(category, 0.0))
        flagged = frozenset(category for category, score in scores.items() if score >= self._thresholds[category])
        return Verdict(labels=highest, scores=scores, flagged=flagged)


def meanings_of(spec: ModelSpec, labels: Sequence[str], options: ClassifierOptions) -> Meanings:
    """The categories of each label. Raises ``ModelUnavailable`` naming what is wrong."""
    if unknown := options.categories.keys() - set(labels):
        shown = ", ".join(labels[:_SHOWN])
        raise ModelUnavailable(f"options.categories of '{spec.id}': there is no label '{min(unknown)}'. Its labels: {shown}.")
    spelled = {label: _SPELLING.sub(" ", label.lower()).strip() for label in labels}
    known = {**_KNOWN, **_SHORT} if "hr" in spelled.values() else _KNOWN
    told = {label: (one,) if isinstance(one, str) else one for label, one in options.categories.items()}
    found = {label: told.get(label, known.get(spelled[label], ())) for label in labels}
    if not any(found.values()):
        shown = ", ".join(labels[:_SHOWN])
        reason = f"Nothing is known of the labels of '{spec.id}' ({shown}); say in options.categories what they mean."
        raise ModelUnavailable(reason, retry=False)
    return found
