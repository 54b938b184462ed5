"""Which tokens run in the next step: first the next token of every answer, then prompts in the order of their arrival."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from handlers.decoding.cache import BlockPool
from handlers.decoding.sequence import Sequence, State


class Limits(Struct, frozen=True, kw_only=True):
    """Tokens of one step, tokens of one prompt whose log probabilities are asked for in one step, sequences at once."""

    step_tokens: int = 256
    scored_tokens: int = 64
    sequences: int = 64


class Chunk(Struct, frozen=True):
    """``count`` tokens of a sequence, from ``start`` on."""

    sequence: Sequence
    start: int
    count: int

    @property
    def stop(self) -> int:
        return self.start + self.count

    @property
    def is_last(self) -> bool:
        """Whether a token is to be chosen after it."""
        return self.stop == len(self.sequence.ids)


class Scheduler:
    """Holds every sequence that is not finished, and the blocks.

    Where blocks run out, the youngest sequence gives up its own and waits again, before all that have not begun; its tokens are
    kept and run anew.

    Args:
        copy: copies a block's contents in the cache, from the first number to the second.
    """

    def __init__(self, pool: BlockPool, block_size: int, limits: Limits, copy: Callable[[int, int], None]) -> None:
        self._pool = pool
        self._block_size = block_size
        self._limits = limits
        self._copy = copy
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.fresh: set[int] = set()

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def schedule(self) -> list[Chunk]:
        """The next step's work, decodes first. The blocks it needs are given out; those in ``fresh`` are to be emptied."""
        self.fresh.clear()
        work: dict[int, Chunk] = {}
        left = self._limits.step_tokens
        for sequence in sorted(self.running, key=lambda one: one.pending > 1):
            if left <= 0:
                break
            if sequence.state is State.RUNNING and not sequence.is_full:
                left -= self._plan(sequence, left, work)
        while self.waiting and left > 0 and self._admit(self.waiting[0]):
            left -= self._plan(self.waiting.popleft(), left, work)
        return list(work.values())

    def computed(self, chunk: Chunk) -> None:
        """The chunk is in the cache: its full blocks can be found, and its followers begin where its prompt ends."""
        sequence = chunk.sequence
        sequence.computed = chunk.stop
        for index in range(chunk.start // self._block_size, chunk.stop // self._block_size):
            self._pool.name(sequence.blocks[index], sequence.name_of(index, self._block_size))
        if chunk.is_last and sequence.followers:
            self._fork(sequence)

    def remove(self, sequence: Sequence) -> None:
        """It leaves at once, whatever it was doing. Its followers leave with it if they have not begun."""
        for follower in sequence.followers:
            follower.state = State.FINISHED
        if sequence.state is State.RUNNING:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        sequence.state = State.FINISHED
        self._release(sequence)

    # ------------------------------------------------------------ one sequence

    def _plan(self, sequence: Sequence, left: int, work: dict[int, Chunk]) -> int:
        """Enter as much of the sequence as fits; the tokens that takes, less those that had to give way."""
        most = self._limits.scored_tokens if sequence.scoring else left
        count = min(sequence.pending, left, most)
        given_up = self._make_room(sequence, count)
        freed = sum(work.pop(one.order).count for one in given_up if one.order in work)
        if sequence.state is not State.RUNNING:
            return -freed
        work[sequence.order] = Chunk(sequence, sequence.computed, count)
        return count - freed

    def _admit(self, sequence: Sequence) -> bool:
        """Begin with the prompt's known prefix, if all of the rest has room."""
        if self.running and len(self.running) + sequence.width > self._limits.sequences:
            return False
        known = [] if sequence.scoring else self._known_prefix(sequence)
        revived = sum(map(self._pool.is_free, known))
        if self._blocks_for(len(sequence.ids) + 1) - len(known) > self._pool.free - revived and self.running:
            return False
        self._pool.share(known)
        sequence.blocks = known
        sequence.computed = len(known) * self._block_size
        if sequence.reused is None:
            sequence.reused = sequence.computed
        sequence.state = State.RUNNING
        self.running.append(sequence)
        return True

    def _known_prefix(self, sequence: Sequence) -> list[int]:
        """Blocks that hold its beginning already; its last token always runs, since its logits are needed."""
        blocks: list[int] = []
        for index in range((len(sequence.ids) - 1) // self._block_size):
            block = self._pool.find(sequence.name_of(index, self._block_size))
            if block is None:
                break
            blocks.append(block)
        return blocks

    def _make_room(self, sequence: Sequence, count: int) -> list[Sequence]:
        """Blocks for the next ``count`` tokens, its own ones to write to. Who had to give way for it, perhaps itself."""
        given_up: list[Sequence] = []
        while (lack := self._lack(sequence, count)) is not None:
            block = self._pool.take()
            if block is not None:
                self._put(sequence, lack, block)
                continue
            youngest = max(self.running, key=lambda one: one.order)
            self._preempt(youngest)
            given_up.append(youngest)
            if youngest is sequence:
                break
        return given_up

    def _lack(self, sequence: Sequence, count: int) -> int | None:
        """The place in its table that needs a block before it can go on."""
        first = sequence.computed // self._block_size
        if first < len(sequence.blocks) and self._pool.references(sequence.blocks[first]) > 1:
            return first
        needed = self._blocks_for(sequence.computed + count)
        return len(sequence.blocks) if len(sequence.blocks) < needed else None

    def _put(self, sequence: Sequence, place: int, block: int) -> None:
        """A block that others hold too is copied before it is written to."""
        if place == len(sequence.blocks):
            sequence.blocks.append(block)
            self.fresh.add(block)
            return
        self.fresh.discard(block)
        self._copy(sequence.blocks[place], block)
        self._pool.release([sequence.blocks[place]])
        sequence.blocks[place] = block

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._release(sequence)
        sequence.state = State.WAITING
        self.waiting.appendleft(sequence)

    def _fork(self, sequence: Sequence) -> None:
        for follower in sequence.followers:
            self._pool.share(sequence.blocks)
            follower.blocks = list(sequence.blocks)
            follower.names = list(sequence.names)
            follower.computed = sequence.computed
            follower.state = State.RUNNING
        self.running += sequence.followers
        sequence.followers = []

    def _release(self, sequence: Sequence) -> None:
        self._pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.computed = 0

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self._block_size)
