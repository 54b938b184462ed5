"""Finding a few likely tokens among many: rows are cut into pieces, and most pieces are never looked into."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from torch import Tensor

_PIECE = 128
_FIRST = 64


class Cuts(Struct, frozen=True):
    """What may be drawn, one value a row: ``top_k`` 0 and ``top_p`` 1 are off."""

    top_k: Tensor
    top_p: Tensor
    min_p: Tensor

    def __getitem__(self, rows: list[int]) -> Cuts:
        return Cuts(self.top_k[rows], self.top_p[rows], self.min_p[rows])


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
    """Like ``pick``, among what ``cuts`` leave. Only rows whose cut lies deep are ranked as a whole."""
    cuts = Cuts(*(values.to(probabilities.device)[:, None] for values in (cuts.top_k, cuts.top_p, cuts.min_p)))
    values, tokens = _top(probabilities, _FIRST)
    enough = ((values.sum(-1, keepdim=True) > cuts.top_p) & (cuts.top_k == 0)) | ((cuts.top_k > 0) & (cuts.top_k <= _FIRST))
    found = _pick_sorted(values, tokens, numbers, cuts)
    deep = (~enough[:, 0]).nonzero()[:, 0].tolist()
    if deep and values.shape[-1] < probabilities.shape[-1]:
        values, tokens = probabilities[deep].sort(dim=-1, descending=True, stable=True)
        for row, token in zip(deep, _pick_sorted(values, tokens, numbers[deep], cuts[deep]), strict=True):
            found[row] = token
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
    """The ``count`` largest of each row: they lie in the ``count`` pieces whose own largest is largest."""
    pieces = _pieces(values)
    rows, many, _ = pieces.shape
    if many <= count:
        found = values.topk(min(count, values.shape[-1]))
        return found.values, found.indices
    best = pieces.amax(-1).topk(count).indices
    inside = pieces.gather(1, best[:, :, None].expand(-1, -1, _PIECE)).view(rows, -1).topk(count)
    tokens = best.gather(1, inside.indices // _PIECE) * _PIECE + inside.indices % _PIECE
    return inside.values, tokens


def _pieces(values: Tensor, fill: float = float("-inf")) -> Tensor:
    """``[rows, size]`` as ``[rows, pieces, _PIECE]``."""
    from torch.nn.functional import pad

    missing = -values.shape[-1] % _PIECE
    return (pad(values, (0, missing), value=fill) if missing else values).reshape(values.shape[0], -1, _PIECE)
