"""Steps of nothing but decodes, recorded once and replayed: the device then takes hundreds of small steps from one call.

A recording holds the addresses of what it read, so its inputs are copied to buffers that stay where they are. There is one
for each number of sequences, rounded up, and width of their block table; the rows that are too many repeat the last one.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from handlers.decoding.cache import KeyValueCache
from handlers.decoding.launch import Launch
from handlers.decoding.layouts import Layouts
from handlers.decoding.scheduler import Chunk
from handlers.decoding.transfer import place

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256)
Recorder = Callable[[Callable[[], None]], Callable[[], None]]
"""Takes a step that may be run any number of times, and gives back what runs it again."""


class DecodeGraphs:
    """Runs what it can of a model's steps from recordings, which are made when they are first needed.

    Args:
        record: makes a recording. A model that cannot be recorded (its step asks the device for a number) is left alone then.
    """

    def __init__(self, model: Any, cache: KeyValueCache, layouts: Layouts, record: Recorder) -> None:
        self._model = model
        self._cache = cache
        self._layouts = layouts
        self._record = record
        self._usable = True
        self._steps: dict[tuple[int, int], _Step] = {}
        self._logits: Tensor | None = None

    @property
    def recorded(self) -> int:
        return len(self._steps)

    def run(self, work: list[Chunk], launch: Launch | None) -> Tensor | None:
        """Logits of the next token, float32, ``[sequences, vocab]``, good until the next step; None where it cannot be done."""
        if not self._usable or len(work) > ROWS[-1] or not all(map(_is_decode, work)):
            return None
        rows = next(rows for rows in ROWS if rows >= len(work))
        width = self._layouts.width(rows, max(len(chunk.sequence.blocks) for chunk in work))
        if width is None:
            return None
        step = self._step(rows, width)
        step.load(work, launch, self._cache.block_size)
        if step.replay is None:
            try:
                step.replay = self._record(lambda: self._forward(step))
            except RuntimeError as error:
                logger.info("decodes are not recorded, since this model's cannot be: %s", str(error).partition("\n")[0])
                self._usable = False
                self._steps.clear()
                self._logits = None
                return None
        step.replay()
        return None if self._logits is None else self._logits[: len(work)]

    def _step(self, rows: int, width: int) -> _Step:
        if (rows, width) not in self._steps:
            self._steps[rows, width] = _Step(rows, width, self._model.device)
        return self._steps[rows, width]

    def _forward(self, step: _Step) -> None:
        """All decodes' logits have one place, so that recordings need none of their own."""
        import torch

        ids, positions, slots, lengths = step.numbers
        paged = self._layouts.of_decodes(slots, lengths, step.table)
        found = self._model(input_ids=ids[None], position_ids=positions[None], use_cache=False, paged=paged).logits[0]
        if self._logits is None:
            self._logits = found.new_empty(ROWS[-1], found.shape[-1], dtype=torch.float32)
        self._logits[: len(ids)].copy_(found)


class _Step:
    """A recording's inputs, and how to run it.

    Attributes:
        numbers: of each sequence its token, that token's position, its place in the cache, and the sequence's length with it.
        table: block table.
    """

    def __init__(self, rows: int, width: int, device: Any) -> None:
        import torch

        self.numbers = torch.zeros(4, rows, dtype=torch.long, device=device)
        self.table = torch.zeros(rows, width, dtype=torch.int32, device=device)
        self.replay: Callable[[], None] | None = None
        self._device = device
        self._held: list[list[int]] = [[] for _ in range(rows)]

    def load(self, work: list[Chunk], launch: Launch | None, block_size: int) -> None:
        import torch

        work = work + work[-1:] * (len(self._held) - len(work))
        rows = [_numbers(chunk, launch, block_size) for chunk in work]
        *_, source = numbers = place(list(zip(*rows, strict=True)), self._device)
        self.numbers.copy_(numbers[:-1])
        if launch is not None:
            unread = self.numbers[0] < 0
            torch.where(unread, launch.usable.index_select(0, source), self.numbers[0], out=self.numbers[0])
        self._load_table([chunk.sequence.blocks for chunk in work])

    def _load_table(self, blocks: list[list[int]]) -> None:
        """Only what is new. Behind a row's own blocks there are zeros."""
        import torch

        changed = [row for row, (old, new) in enumerate(zip(self._held, blocks, strict=True)) if old != new]
        if changed:
            width = max(len(held) for row in changed for held in (self._held[row], blocks[row]))
            table = [blocks[row] + [0] * (width - len(blocks[row])) for row in changed]
            self.table[:, :width].index_copy_(0, place(changed, self._device), place(table, self._device, torch.int32))
        for row in changed:
            self._held[row] = list(blocks[row])


def _numbers(chunk: Chunk, launch: Launch | None, block_size: int) -> tuple[int, ...]:
    """See ``_Step``; and where in ``launch`` the token is, if nobody has read it."""
    sequence, at = chunk.sequence, chunk.start
    slot = sequence.blocks[at // block_size] * block_size + at % block_size
    source = 0 if launch is None else launch.rows.get(sequence.order, 0)
    return sequence.ids[at], at, slot, chunk.stop, source


def _is_decode(chunk: Chunk) -> bool:
    sequence = chunk.sequence
    plain = sequence.embedded is None or not sequence.embedded.between(chunk.start, chunk.stop)
    return chunk.count == 1 and chunk.is_last and not sequence.scoring and plain


class Recording:
    """Records steps of a GPU as CUDA graphs, which share what memory they need.

    See https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.
    """

    def __init__(self, device: Any) -> None:
        import torch

        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)
        self._tried = False

    def __call__(self, step: Callable[[], None]) -> Callable[[], None]:
        """Raises ``RuntimeError`` where the step cannot be recorded."""
        import torch

        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device):
            usual = torch.cuda.current_stream()
            self._stream.wait_stream(usual)
            try:
                with torch.cuda.stream(self._stream):  # a recording that breaks does not leave its stream by itself
                    self._warm_up(step)
                    with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                        step()
            finally:
                usual.wait_stream(self._stream)
        replay: Callable[[], None] = graph.replay
        return replay

    def _warm_up(self, step: Callable[[], None]) -> None:
        """What is made once is made now; and what would wait for the device is found before a recording breaks of it.

        Torch's memory may never be the same after that: https://github.com/pytorch/pytorch/pull/180395.
        """
        step()
        if self._tried:
            return
        with _waiting_forbidden():
            step()
        self._tried = True


@contextmanager
def _waiting_forbidden() -> Iterator[None]:
    """In this time what waits for a device raises ``RuntimeError``, on any thread."""
    import torch

    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says at the first call that this is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
