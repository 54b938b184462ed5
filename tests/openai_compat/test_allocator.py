"""What torch's allocator is told, under both of its names."""

from __future__ import annotations

import pytest

from openai_compat.allocator import NEW, OLD, USUAL, allocator_settings
from openai_compat.gateway.environment import worker_environment


@pytest.mark.parametrize(
    ("environments", "new", "old"),
    [
        ([{}], USUAL, USUAL),
        ([{NEW: "a"}], "a", "a"),
        ([{OLD: "b"}], "b", "b"),
        ([{NEW: "a", OLD: "b"}], "a", "b"),
        ([{OLD: "b"}, {NEW: "a", OLD: "a"}], "b", "b"),
        ([{}, {NEW: "a"}], "a", "a"),
    ],
)
def test_what_somebody_said_under_one_name_holds_for_the_other(environments, new: str, old: str) -> None:
    assert allocator_settings(*environments) == {NEW: new, OLD: old}


def test_a_worker_is_told_unless_the_operator_was_faster() -> None:
    made = worker_environment({"PATH": "/bin"})
    assert made[NEW] == made[OLD] == USUAL
    made = worker_environment({OLD: "max_split_size_mb:128"})
    assert made[NEW] == made[OLD] == "max_split_size_mb:128"
