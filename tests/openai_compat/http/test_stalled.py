"""Clients who take nothing of what waits for them, and those who are only slow."""

from __future__ import annotations

from openai_compat.http.stalled import Stalled


class Client:
    """A connection, and its own transport."""

    def __init__(self, *unsent: int) -> None:
        self.transport = self
        self.unsent = list(unsent)
        self.aborted_at = 0

    def get_write_buffer_size(self) -> int:
        return self.unsent.pop(0)

    def abort(self) -> None:
        self.aborted_at = len(self.unsent)


def looked_at(client: Client) -> int:
    """How many looks it was spared, of one every five seconds; 0 where it was never ended."""
    stalled = Stalled(30.0)
    for count in range(len(client.unsent)):
        stalled.look({client}, 5.0 * count)
        if client.aborted_at:
            return count
    return 0


def test_whoever_takes_nothing_for_so_long_is_ended() -> None:
    assert looked_at(Client(*[500] * 20)) == 6


def test_that_more_is_written_to_it_does_not_excuse_it() -> None:
    assert looked_at(Client(*range(500, 520))) == 6


def test_whoever_takes_a_little_now_and_then_is_only_slow() -> None:
    assert looked_at(Client(*range(500, 480, -1))) == 0
    assert looked_at(Client(*[500, 500, 500, 500, 400] * 4)) == 0


def test_whoever_has_taken_everything_begins_anew() -> None:
    assert looked_at(Client(*[500, 500, 500, 500, 500, 0] * 4)) == 0


def test_nobody_is_remembered_who_has_left() -> None:
    stalled = Stalled(30.0)
    client = Client(*[500] * 20)
    stalled.look({client}, 0.0)
    stalled.look((), 5.0)
    stalled.look({client}, 40.0)
    assert not client.aborted_at
