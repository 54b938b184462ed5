"""Finding a few likely tokens among many, without sorting the many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from torch import Tensor

_PIECE = 128
_DEPTHS = (64, 1024)


class Cuts(Struct, frozen=True):
    """What may be drawn, one value a row: ``top_k`` 0 and ``top_p`` 1 are off."""

    top_k: Tensor
    top_p: Tensor
    min_p: Tensor

    def __getitem__(self, rows: list[int]) -> Cuts:
        return Cuts(self.top_k[rows], self.top_p[rows], self.min_p[rows])


def only(values: Tensor, rows: list[int]) -> Tensor:
    """Some rows, in order; not copied where they are all of them."""
    return values if len(rows) == len(values) else values[rows]


def argmax(values: Tensor) -> list[int]:
    """The first of the largest of each row."""
    pieces = _pieces(values)
    best = pieces.amax(-1).argmax(-1)
    inside = pieces.gather(1, best[:, None, None].expand(-1, 1, _PIECE))[:, 0].argmax(-1)
    found: list[int] = (best * _PIECE + inside).tolist()
    return found


def pick(weights: Tensor, numbers: Tensor) -> list[int]:
    """For each row the token at which its cumulated weights reach ``numbers`` (``[rows, 1]``, in (0, 1]) of their sum."""
    import torch

    pieces = _pieces(weights, fill=0.0)
    ladder = pieces.sum(-1).cumsum(-1)
    goal = numbers * ladder[:, -1:]
    piece = torch.searchsorted(ladder, goal).clamp_(max=ladder.shape[-1] - 1)
    chosen = pieces.gather(1, piece[:, :, None].expand(-1, 1, _PIECE))[:, 0]
    before = ladder.gather(1, piece) - chosen.sum(-1, keepdim=True)
    inside = torch.searchsorted(chosen.cumsum(-1), goal - before)
    last = _PIECE - 1 - (chosen.flip(-1) > 0).int().argmax(-1, keepdim=True)
    first = (chosen > 0).int().argmax(-1, keepdim=True)
    found: list[int] = (piece * _PIECE + inside.clamp(first, last))[:, 0].tolist()
    return found


def pick_ranked(probabilities: Tensor, numbers: Tensor, cuts: Cuts) -> list[int]:
    """Like ``pick``, among what ``cuts`` leave. A row is ranked only as deep as its own cut lies."""
    cuts = Cuts(*(values.to(probabilities.device)[:, None] for values in (cuts.top_k, cuts.top_p, cuts.min_p)))
    found = [0] * len(probabilities)
    rows = list(range(len(probabilities)))
    for depth in (*_DEPTHS, probabilities.shape[-1]):
        values, tokens = _top(only(probabilities, rows), depth)
        own = cuts[rows]
        enough = ((values.sum(-1, keepdim=True) > own.top_p) & (own.top_k == 0)) | ((own.top_k > 0) & (own.top_k <= depth))
        for row, token in zip(rows, _pick_sorted(values, tokens, numbers[rows], own), strict=True):
            found[row] = token
        rows = [row for row, done in zip(rows, enough[:, 0].tolist(), strict=True) if not done]
        if not rows or values.shape[-1] == probabilities.shape[-1]:
            break
    return found


def _pick_sorted(values: Tensor, tokens: Tensor, numbers: Tensor, cuts: Cuts) -> list[int]:
    import torch

    places = torch.arange(values.shape[-1], device=values.device)
    values = values * ((cuts.top_k == 0) | (places < cuts.top_k))
    ladder = values.cumsum(-1)
    whole = torch.where(cuts.top_k > 0, ladder[:, -1:], 1.0)
    keep = ((ladder - values) / whole < cuts.top_p) & (values >= cuts.min_p * values[:, :1])
    keep[:, 0] = True
    ladder = (values * keep).cumsum(-1)
    place = torch.searchsorted(ladder, numbers * ladder[:, -1:]).clamp_(max=values.shape[-1] - 1)
    found: list[int] = tokens.gather(1, place)[:, 0].tolist()
    return found


def _top(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest of each row, in order: they lie in the ``count`` pieces whose own largest is largest."""
    rows, size = values.shape
    if count >= size:
        ranked = values.sort(dim=-1, descending=True, stable=True)
        return ranked.values, ranked.indices
    pieces = _pieces(values)
    if count > _DEPTHS[0] or pieces.shape[1] <= count:
        found = values.topk(count)
        return found.values, found.indices
    best = pieces.amax(-1).topk(count).indices
    inside = pieces.gather(1, best[:, :, None].expand(-1, -1, _PIECE)).view(rows, -1).topk(count)
    return inside.values, best.gather(1, inside.indices // _PIECE) * _PIECE + inside.indices % _PIECE


def _pieces(values: Tensor, fill: float = float("-inf")) -> Tensor:
    """``[rows, size]`` as ``[rows, pieces, _PIECE]``."""
    from torch.nn.functional import pad

    missing = -values.shape[-1] % _PIECE
    return (pad(values, (0, missing), value=fill) if missing else values).reshape(values.shape[0], -1, _PIECE)
