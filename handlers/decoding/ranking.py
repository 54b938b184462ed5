"""Finding a few likely tokens among many, without sorting the many. Tokens come back as a tensor, int64, ``[rows]``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from handlers.decoding.transfer import place

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
    return values if len(rows) == len(values) else values.index_select(0, place(rows, values.device))


def argmax(values: Tensor) -> Tensor:
    """The first of the largest of each row."""
    pieces = _pieces(values)
    best = pieces.amax(-1).argmax(-1)
    inside = pieces.gather(1, best[:, None, None].expand(-1, 1, _PIECE))[:, 0].argmax(-1)
    return best * _PIECE + inside


def pick(weights: Tensor, numbers: Tensor) -> Tensor:
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
    return (piece * _PIECE + inside.clamp(first, last))[:, 0]


def pick_ranked(probabilities: Tensor, numbers: Tensor, cuts: Cuts) -> Tensor:
    """Like ``pick``, among what ``cuts`` leave (columns, ``[rows, 1]``).

    On a processor a row is ranked only as deep as its cut lies. A GPU would have to be asked how deep that is, and ranks all.
    """
    import torch

    if probabilities.device.type != "cpu":
        return _pick_sorted(*_top(probabilities, probabilities.shape[-1]), numbers, cuts)
    found = torch.empty(len(probabilities), dtype=torch.long)
    rows = list(range(len(probabilities)))
    for depth in (*_DEPTHS, probabilities.shape[-1]):
        values, tokens = _top(only(probabilities, rows), depth)
        own = cuts[rows]
        enough = ((values.sum(-1, keepdim=True) > own.top_p) & (own.top_k == 0)) | ((own.top_k > 0) & (own.top_k <= depth))
        found[rows] = _pick_sorted(values, tokens, numbers[rows], own)
        rows = [row for row, done in zip(rows, enough[:, 0].tolist(), strict=True) if not done]
        if not rows or values.shape[-1] == probabilities.shape[-1]:
            break
    return found


def _pick_sorted(values: Tensor, tokens: Tensor, numbers: Tensor, cuts: Cuts) -> Tensor:
    import torch

    places = torch.arange(values.shape[-1], device=values.device)
    values = values * ((cuts.top_k == 0) | (places < cuts.top_k))
    ladder = values.cumsum(-1)
    whole = torch.where(cuts.top_k > 0, ladder[:, -1:], 1.0)
    keep = ((ladder - values) / whole < cuts.top_p) & (values >= cuts.min_p * values[:, :1])
    keep[:, 0] = True
    ladder = (values * keep).cumsum(-1)
    found = torch.searchsorted(ladder, numbers * ladder[:, -1:]).clamp_(max=values.shape[-1] - 1)
    return tokens.gather(1, found)[:, 0]


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
