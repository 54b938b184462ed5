"""Whatever arrives, ends and is given up in whatever order: no block is lost, lent twice or written to by two."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.decoding.cache import BlockPool
from handlers.decoding.params import TextConfig
from handlers.decoding.scheduler import Limits, Scheduler
from handlers.decoding.sequence import Sequence, State
from handlers.decoding.ticket import Ticket

BLOCK = 4
POOL = 10
LONGEST = POOL * BLOCK - 1


class Said:
    """As much of a transcript and its choices as the scheduler's users touch."""

    finished = False


def sequence(order: int, ids: tuple[int, ...]) -> Sequence:
    ticket = Ticket(None, TextConfig(), None, lambda piece: None, lambda generation: None)
    return Sequence(ticket, Said(), Said(), ids, order)


class World:
    """A scheduler whose cache is a table: which token stands in which slot."""

    def __init__(self, step_tokens: int, sequences: int) -> None:
        self.pool = BlockPool(POOL)
        limits = Limits(step_tokens=step_tokens, sequences=sequences)
        self.scheduler = Scheduler(self.pool, BLOCK, limits, self.copy)
        self.stored: dict[int, list[object]] = {block: [None] * BLOCK for block in range(1, POOL + 1)}
        self.alive: list[Sequence] = []
        self.orders = 0

    def copy(self, source: int, target: int) -> None:
        self.stored[target] = list(self.stored[source])

    def arrive(self, ids: tuple[int, ...], choices: int) -> None:
        made = [sequence(self.orders + i, ids) for i in range(choices)]
        self.orders += choices
        made[0].follow(made[1:])
        self.scheduler.add(made[0])
        self.alive += made

    def leave(self, which: int) -> None:
        """A whole request ends: those that wait for a leader's prompt go with it."""
        if not self.alive:
            return
        gone = self.alive[which % len(self.alive)]
        if gone.state is State.FORKING:
            gone = next(one for one in self.alive if gone in one.followers)
        self.scheduler.remove(gone)
        self.alive = [one for one in self.alive if one.state is not State.FINISHED]

    def step(self) -> int:
        work = self.scheduler.schedule()
        self.check()
        for chunk in work:
            assert chunk.sequence.state is State.RUNNING
            assert chunk.start == chunk.sequence.computed
            self.run(chunk)
        for chunk in work:
            forked = [chunk.sequence, *chunk.sequence.followers]
            last = chunk.is_last
            self.scheduler.computed(chunk)
            for one in forked if last else ():
                self.grow(one)
        self.check()
        return sum(chunk.count for chunk in work)

    def run(self, chunk) -> None:
        """Writes its slots, which nobody else may hold, and reads what stands before them."""
        ids, blocks = chunk.sequence.ids, chunk.sequence.blocks
        for place in range(chunk.start, chunk.stop):
            assert self.pool.references(blocks[place // BLOCK]) == 1
            self.stored[blocks[place // BLOCK]][place % BLOCK] = ids[place]
        assert [self.stored[blocks[place // BLOCK]][place % BLOCK] for place in range(chunk.stop)] == ids[: chunk.stop]

    def grow(self, one: Sequence) -> None:
        if len(one.ids) >= LONGEST:
            self.scheduler.remove(one)
            self.alive.remove(one)
        else:
            one.ids.append(one.order % 3)

    def check(self) -> None:
        held = Counter(block for one in self.alive for block in one.blocks)
        assert {block: self.pool.references(block) for block in range(1, POOL + 1) if self.pool.references(block)} == held
        assert self.pool.free == POOL - len(held)
        assert all(one.blocks == [] for one in self.alive if one.state is not State.RUNNING)
        assert sorted(map(id, self.scheduler.running)) == sorted(id(one) for one in self.alive if one.state is State.RUNNING)
        assert sorted(map(id, self.scheduler.waiting)) == sorted(id(one) for one in self.alive if one.state is State.WAITING)


PROMPTS = st.lists(st.integers(0, 1), min_size=1, max_size=LONGEST - 1).map(tuple)
EVENTS = st.one_of(
    st.tuples(st.just("arrive"), PROMPTS, st.integers(1, 4)),
    st.tuples(st.just("leave"), st.integers(0, 99)),
    st.tuples(st.just("step")),
    st.tuples(st.just("step")),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=60), st.integers(1, 24), st.integers(1, 8))
def test_blocks_are_accounted_for_whatever_happens(events, step_tokens, sequences) -> None:
    world = World(step_tokens, sequences)
    for name, *arguments in events:
        getattr(world, name)(*arguments)
    steps = 0
    while world.alive:
        assert world.step() > 0, "it stands still"
        steps += 1
        assert steps < 5000
    assert world.pool.free == POOL


def test_the_first_that_came_is_the_first_that_is_done() -> None:
    world = World(step_tokens=6, sequences=3)
    for _ in range(5):
        world.arrive((1, 0) * 6, 1)
    first_to_last = list(world.alive)
    left = []
    while world.alive:
        world.step()
        left += [one for one in first_to_last if one.state is State.FINISHED and one not in left]
    assert left == first_to_last


def test_the_youngest_gives_way_and_keeps_its_place_before_those_that_came_later() -> None:
    world = World(step_tokens=64, sequences=8)
    for _ in range(4):
        world.arrive((1,) * 9, 1)
    old, young = world.alive[0], world.alive[2]
    while young.state is not State.WAITING or not young.ids[9:]:
        world.step()
    assert old.state is State.RUNNING
    assert world.scheduler.waiting[0].order < world.scheduler.waiting[-1].order
