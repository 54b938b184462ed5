"""Running one step's work through the model: packed into one row, with logits only where a token is chosen or scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from handlers.decoding.cache import KeyValueCache
from handlers.decoding.decode_graphs import DecodeGraphs
from handlers.decoding.launch import Launch
from handlers.decoding.layouts import Gathered, Layouts, stops
from handlers.decoding.scheduler import Chunk
from handlers.decoding.sequence import UNREAD
from handlers.decoding.transfer import place

if TYPE_CHECKING:
    from torch import Tensor


class Logits(Struct, frozen=True):
    """Float32 rows, and which are whose, by the sequence's order: one for each token of a scored chunk, else for the last.

    They are good until the next step.
    """

    rows: Tensor
    of: dict[int, range]


class Forward:
    """Turns chunks into one call of the model.

    Args:
        layouts: how attention finds keys and values; gathered by torch where nothing else is given.
        graphs: runs steps of nothing but decodes, where it can.
    """

    def __init__(
        self, model: Any, cache: KeyValueCache, layouts: Layouts | None = None, graphs: DecodeGraphs | None = None
    ) -> None:
        self._model = model
        self.cache = cache
        self.device = model.device
        self._layouts = layouts or Gathered(cache, self.device)
        self._graphs = graphs
        self._picks_rows = model._supports_logits_to_keep()

    @property
    def recorded(self) -> int:
        """How many recordings there are."""
        return 0 if self._graphs is None else self._graphs.recorded

    def run(self, work: list[Chunk], launch: Launch | None = None) -> Logits:
        """``launch`` holds the tokens of the step before, where nobody has read them yet."""
        if self._graphs is not None and (rows := self._graphs.run(work, launch)) is not None:
            return Logits(rows, {chunk.sequence.order: range(row, row + 1) for row, chunk in enumerate(work)})
        work = sorted(work, key=_rank)
        places: list[int] = []
        of: dict[int, range] = {}
        for chunk, start in zip(work, _starts(work), strict=True):
            wanted = _wanted(chunk)
            of[chunk.sequence.order] = range(len(places), len(places) + len(wanted))
            places += [start + offset for offset in wanted]
        return Logits(self._call(work, places, launch), of)

    def _call(self, work: list[Chunk], places: list[int], launch: Launch | None) -> Tensor:
        positions = [at for chunk in work for at in range(chunk.start, chunk.stop)]
        keep = place(places or [0], self.device)
        options = {"logits_to_keep": keep} if self._picks_rows else {}
        output = self._model(
            **self._inputs(work, launch),
            position_ids=place(positions, self.device)[None],
            use_cache=False,
            paged=self._layouts.of(work),
            **options,
        )
        logits: Tensor = output.logits[0]
        return (logits if self._picks_rows else logits.index_select(0, keep)).float()

    def _inputs(self, work: list[Chunk], launch: Launch | None) -> dict[str, Tensor]:
        """The row's tokens, or what the first layer gets where some of them stand for something else."""
        ids = [token for chunk in work for token in chunk.sequence.ids[chunk.start : chunk.stop]]
        others = [(chunk, start) for chunk, start in zip(work, _starts(work), strict=True) if _embedded(chunk)]
        if not others:
            return {"input_ids": self._tokens(work, ids, launch)[None]}
        for chunk, start in others:
            for at in _embedded(chunk):
                ids[start + at - chunk.start] = 0  # what stands for a picture need not be in the vocabulary
        hidden = self._model.get_input_embeddings()(self._tokens(work, ids, launch))
        for chunk, start in others:
            if chunk.sequence.embedded is not None:
                chunk.sequence.embedded.put(hidden[start : start + chunk.count], chunk.start)
        return {"inputs_embeds": hidden[None]}

    def _tokens(self, work: list[Chunk], ids: list[int], launch: Launch | None) -> Tensor:
        """``ids``, and on the device those that nobody has read yet."""
        tokens = place(ids, self.device)
        unread = [(stop - 1, chunk.sequence.order) for chunk, stop in zip(work, stops(work), strict=True) if _is_unread(chunk)]
        if launch is not None and unread:
            rows = place([launch.rows[order] for _, order in unread], self.device)
            tokens.index_copy_(0, place([at for at, _ in unread], self.device), launch.usable.index_select(0, rows))
        return tokens


def _rank(chunk: Chunk) -> tuple[bool, int]:
    """Single tokens first, by length."""
    return chunk.count > 1, chunk.stop if chunk.count == 1 else 0


def _wanted(chunk: Chunk) -> range:
    """Tokens of the chunk whose logits are needed."""
    if chunk.sequence.scoring:
        return range(chunk.count)
    return range(chunk.count - 1, chunk.count) if chunk.is_last else range(0)


def _is_unread(chunk: Chunk) -> bool:
    """Whether its last token was chosen and has not been read."""
    return chunk.is_last and chunk.sequence.ids[-1] == UNREAD


def _embedded(chunk: Chunk) -> list[int]:
    """Places of the chunk that no token stands at."""
    embedded = chunk.sequence.embedded
    if embedded is None:
        return []
    own = embedded.between(chunk.start, chunk.stop)
    return embedded.places[own.start : own.stop]


def _starts(work: list[Chunk]) -> list[int]:
    return [stop - chunk.count for chunk, stop in zip(work, stops(work), strict=True)]
