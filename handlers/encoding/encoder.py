"""One forward of a text model over many texts, padded at the end, and what is made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from handlers.encoding.pooling import Head
from handlers.encoding.texts import Tokens
from openai_compat.errors import APIError

if TYPE_CHECKING:
    from torch import Tensor


Run = Callable[[list[Tokens]], list[Any]]
_TOLERANCE = 0.03
"""Of a vector's length: what bfloat16 may differ by, and far less than a leak."""


class TextEncoder:
    """Texts → vectors, float32, in main memory.

    A decoder's tokens see only what is before them, so that padding at the end needs no care there either.
    """

    def __init__(self, model: Any, head: Head, *, pad: int) -> None:
        self._model = model
        self._head = head
        self._pad = pad

    def run(self, texts: list[Tokens]) -> list[Any]:
        """Raises whatever the model raises."""
        import torch

        with torch.inference_mode():
            batch, lengths = padded(texts, self._pad, self._model.device)
            hidden = self._model(**batch).last_hidden_state
            skipped = torch.tensor([text.skipped for text in texts], device=hidden.device)
            vectors = self._head(hidden, lengths, skipped if any(text.skipped for text in texts) else None)
            return rows(vectors)


class Classifier:
    """Texts → a score from 0 to 1 for each label: of labels that exclude one another they sum to 1."""

    def __init__(self, model: Any, *, pad: int) -> None:
        self._model = model
        self._pad = pad
        self._several = model.config.problem_type == "multi_label_classification" or model.config.num_labels == 1

    def run(self, texts: list[Tokens]) -> list[Any]:
        import torch

        with torch.inference_mode():
            batch, _ = padded(texts, self._pad, self._model.device)
            if texts[0].types is not None:
                batch["token_type_ids"], _ = _tensor([text.types or [] for text in texts], 0, self._model.device)
            logits = self._model(**batch).logits.float()
            scores = (logits.sigmoid() if self._several else logits.softmax(-1)).cpu()
            sound = torch.isfinite(scores).all(-1).tolist()
        return [row if fine else broken() for row, fine in zip(scores.tolist(), sound, strict=True)]


class CrossEncoder:
    """Pairs of texts → relevance from 0 to 1."""

    def __init__(self, model: Any, *, pad: int) -> None:
        self._model = model
        self._pad = pad

    def run(self, pairs: list[Tokens]) -> list[Any]:
        import torch

        with torch.inference_mode():
            batch, _ = padded(pairs, self._pad, self._model.device)
            if pairs[0].types is not None:
                batch["token_type_ids"], _ = _tensor([pair.types or [] for pair in pairs], 0, self._model.device)
            scores = self._model(**batch).logits[:, 0].float().sigmoid().tolist()
        return [score if score == score else broken() for score in scores]


def padded(texts: list[Tokens], pad: int, device: Any) -> tuple[dict[str, Tensor], Tensor]:
    """What a model takes, and the lengths; texts of one length need no mask, which is faster without."""
    import torch

    ids, lengths = _tensor([text.ids for text in texts], pad, device)
    batch = {"input_ids": ids}
    if min(len(text.ids) for text in texts) != ids.shape[1]:
        batch["attention_mask"] = (torch.arange(ids.shape[1], device=device) < lengths[:, None]).long()
    return batch, lengths


def rows(vectors: Tensor) -> list[Any]:
    """One vector each, or an error for one that is no vector."""
    import torch

    found = vectors.float().cpu()
    sound = torch.isfinite(found).all(-1).tolist()
    return [row if fine else broken() for row, fine in zip(found, sound, strict=True)]


def broken() -> APIError:
    return APIError("The model failed while processing the request.")


def _tensor(lists: list[list[int]], pad: int, device: Any) -> tuple[Tensor, Tensor]:
    import torch

    lengths = [len(numbers) for numbers in lists]
    longest = max(lengths)
    square = torch.tensor([numbers + [pad] * (longest - len(numbers)) for numbers in lists], device=device)
    return square, torch.tensor(lengths, device=device)


def bears_padding(run: Run, texts: list[Tokens]) -> bool:
    """Whether a short text's output is the same beside a long one as alone; a convolution, say, reads what is behind it."""
    import torch

    together = [torch.as_tensor(output) for output in run(texts)]
    alone = [torch.as_tensor(run([text])[0]) for text in texts]
    return all(bool((one - other).norm() <= _TOLERANCE * one.norm()) for one, other in zip(alone, together, strict=True))


def by_length(run: Run, texts: list[Tokens]) -> list[Any]:
    """``run`` for texts of one length at a time."""
    outputs: list[Any] = [None] * len(texts)
    groups: dict[int, list[int]] = {}
    for i, text in enumerate(texts):
        groups.setdefault(len(text.ids), []).append(i)
    for places in groups.values():
        for i, output in zip(places, run([texts[i] for i in places]), strict=True):
            outputs[i] = output
    return outputs
