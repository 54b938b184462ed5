"""Running one step's work through the model: packed into one row, with logits only where a token is chosen or scored."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from handlers.decoding.attention import Decodes, Paged, Prefill
from handlers.decoding.cache import KeyValueCache
from handlers.decoding.launch import Launch
from handlers.decoding.scheduler import Chunk
from handlers.decoding.sequence import UNREAD
from handlers.decoding.transfer import place

if TYPE_CHECKING:
    from torch import Tensor

_WASTE = 2.0
_FEW_BLOCKS = 8


class Logits(Struct, frozen=True):
    """Float32 rows, and which are whose, by the sequence's order: one for each token of a scored chunk, else for the last."""

    rows: Tensor
    of: dict[int, range]


class Forward:
    """Turns chunks into one call of the model."""

    def __init__(self, model: Any, cache: KeyValueCache) -> None:
        self._model = model
        self.cache = cache
        self.device = model.device
        self._picks_rows = model._supports_logits_to_keep()

    def run(self, work: list[Chunk], launch: Launch | None = None) -> Logits:
        """``launch`` holds the tokens of the step before, where nobody has read them yet."""
        work = sorted(work, key=_rank)
        places: list[int] = []
        rows: dict[int, range] = {}
        for chunk, start in zip(work, _starts(work), strict=True):
            wanted = _wanted(chunk)
            rows[chunk.sequence.order] = range(len(places), len(places) + len(wanted))
            places += [start + offset for offset in wanted]
        return Logits(self._call(work, places, launch), rows)

    def _call(self, work: list[Chunk], places: list[int], launch: Launch | None) -> Tensor:
        positions = [place for chunk in work for place in range(chunk.start, chunk.stop)]
        keep = self._tensor(places or [0])
        options = {"logits_to_keep": keep} if self._picks_rows else {}
        output = self._model(
            **self._inputs(work, launch),
            position_ids=self._tensor(positions)[None],
            use_cache=False,
            paged=self._layout(work),
            **options,
        )
        logits = output.logits[0]
        return (logits if self._picks_rows else logits[keep]).float()

    def _inputs(self, work: list[Chunk], launch: Launch | None) -> dict[str, Tensor]:
        """The row's tokens, or what the first layer gets where some of them stand for something else."""
        ids = [token for chunk in work for token in chunk.sequence.ids[chunk.start : chunk.stop]]
        others = [(chunk, start) for chunk, start in zip(work, _starts(work), strict=True) if _embedded(chunk)]
        if not others:
            return {"input_ids": self._tokens(work, ids, launch)[None]}
        for chunk, start in others:
            for place in _embedded(chunk):
                ids[start + place - chunk.start] = 0  # what stands for a picture need not be in the vocabulary
        hidden = self._model.get_input_embeddings()(self._tokens(work, ids, launch))
        for chunk, start in others:
            if chunk.sequence.embedded is not None:
                chunk.sequence.embedded.put(hidden[start : start + chunk.count], chunk.start)
        return {"inputs_embeds": hidden[None]}

    def _tokens(self, work: list[Chunk], ids: list[int], launch: Launch | None) -> Tensor:
        """``ids``, and on the device those that nobody has read yet."""
        tokens = self._tensor(ids)
        if launch is None:
            return tokens
        unread = [
            (stop - 1, launch.rows[chunk.sequence.order])
            for chunk, stop in zip(work, _stops(work), strict=True)
            if is_unread(chunk)
        ]
        if unread:
            places, rows = (self._tensor(list(numbers)) for numbers in zip(*unread, strict=True))
            tokens.index_copy_(0, places, launch.tokens.index_select(0, rows).clamp(min=0))
        return tokens

    def _layout(self, work: list[Chunk]) -> Paged:
        size = self.cache.block_size
        slots = [
            chunk.sequence.blocks[place // size] * size + place % size
            for chunk in work
            for place in range(chunk.start, chunk.stop)
        ]
        singles = [chunk for chunk in work if chunk.count == 1]
        prefills = [
            Prefill(start, start + chunk.count, self._tensor(chunk.sequence.blocks), chunk.start)
            for chunk, start in zip(work, _starts(work), strict=True)
            if chunk.count > 1
        ]
        return Paged(self.cache, self._tensor(slots), self._decodes(singles), prefills)

    def _decodes(self, chunks: list[Chunk]) -> list[Decodes]:
        """Sequences of like length together, since each group is padded to its longest."""
        groups: list[Decodes] = []
        start = 0
        while start < len(chunks):
            shortest = _blocks(chunks[start], self.cache.block_size)
            stop = start + 1
            while stop < len(chunks) and _blocks(chunks[stop], self.cache.block_size) <= shortest * _WASTE + _FEW_BLOCKS:
                stop += 1
            groups.append(self._group(chunks[start:stop], start))
            start = stop
        return groups

    def _group(self, chunks: list[Chunk], start: int) -> Decodes:
        size = self.cache.block_size
        width = max(_blocks(chunk, size) for chunk in chunks)
        table = [(chunk.sequence.blocks + [0] * width)[:width] for chunk in chunks]
        lengths = self._tensor([chunk.stop for chunk in chunks])
        return Decodes(start, start + len(chunks), self._tensor(table), lengths, size)

    def _tensor(self, values: list[Any]) -> Tensor:
        import torch

        return place(values, self.device, torch.long)


def is_unread(chunk: Chunk) -> bool:
    """Whether its last token was chosen and has not been read."""
    return chunk.is_last and chunk.sequence.ids[-1] == UNREAD


def _rank(chunk: Chunk) -> tuple[bool, int]:
    """Single tokens first, by length."""
    return chunk.count > 1, chunk.stop if chunk.count == 1 else 0


def _wanted(chunk: Chunk) -> range:
    """Tokens of the chunk whose logits are needed."""
    if chunk.sequence.scoring:
        return range(chunk.count)
    return range(chunk.count - 1, chunk.count) if chunk.is_last else range(0)


def _embedded(chunk: Chunk) -> list[int]:
    """Places of the chunk that no token stands at."""
    embedded = chunk.sequence.embedded
    if embedded is None:
        return []
    own = embedded.between(chunk.start, chunk.stop)
    return embedded.places[own.start : own.stop]


def _starts(work: list[Chunk]) -> list[int]:
    return [stop - chunk.count for chunk, stop in zip(work, _stops(work), strict=True)]


def _stops(work: list[Chunk]) -> list[int]:
    """Where each chunk ends in the row."""
    return list(accumulate(chunk.count for chunk in work))


def _blocks(chunk: Chunk, block_size: int) -> int:
    return -(-chunk.stop // block_size)
