"""Memory in numbers: limits, devices, placements, and the words of a refusal."""

from __future__ import annotations

import pytest

from openai_compat.config import MemoryBudget
from openai_compat.gateway.budget import Budget
from openai_compat.gateway.memory import account_of, host_memory, limits_of, parse_gpus
from openai_compat.protocol import Memory

GIB = 1024**3
GPUS = "0, GPU-aaaa, 24576\n1, GPU-bbbb, 81920\n"


def test_limits_are_shares_or_sizes_and_one_gpu_may_differ():
    budget = MemoryBudget(host="50%", device="90%", devices={"cuda:1": "20GiB"})
    limits = limits_of(budget, 64 * GIB, {"cuda:0": 10 * GIB, "cuda:1": 80 * GIB})
    assert limits == {"host": 32 * GIB, "cuda:0": 9 * GIB, "cuda:1": 20 * GIB}


def test_gpus_are_read_from_the_drivers_tool():
    assert parse_gpus(GPUS) == {"cuda:0": 24 * GIB, "cuda:1": 80 * GIB}
    assert parse_gpus("") == {}
    assert parse_gpus("NVIDIA-SMI has failed\n") == {}


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        ("1", {"cuda:0": 80 * GIB}),
        ("1,0", {"cuda:0": 80 * GIB, "cuda:1": 24 * GIB}),
        ("GPU-aa", {"cuda:0": 24 * GIB}),
        ("", {}),
    ],
)
def test_hidden_gpus_do_not_count_and_the_others_are_renumbered(visible, found):
    assert parse_gpus(GPUS, visible) == found


def test_the_processor_and_apples_gpu_live_in_host_memory():
    assert [account_of(device) for device in ("cpu", "mps", "cuda:3")] == ["host", "host", "cuda:3"]
    assert host_memory() > 0


def test_auto_is_the_emptiest_gpu_and_the_processor_only_where_no_gpu_can_hold_it():
    budget = Budget({"host": 64 * GIB, "cuda:0": 8 * GIB, "cuda:1": 8 * GIB})
    budget.reserve("other", {"cuda:0": GIB})
    gpus, _, processor = budget.devices_for("auto")
    assert gpus == ("cuda:1", "cuda:0")
    assert processor == ("cpu",)


def test_devices_that_are_not_there_are_left_out():
    budget = Budget({"host": GIB})
    assert budget.devices_for(("cuda:0", "cpu")) == (("cpu",),)
    assert budget.devices_for("cuda:0") == ((),)
    assert "none of the devices" in budget.refusal("m", [], {}).message


def test_the_most_that_was_seen_is_what_a_model_takes():
    budget = Budget({"host": 10 * GIB, "cuda:0": 10 * GIB})
    budget.reserve("m", {"cuda:0": GIB})
    budget.correct("m", "cuda:0", Memory(2 * GIB, {"cuda:0": 4 * GIB}))
    budget.correct("m", "cuda:0", Memory(GIB, {"cuda:0": 3 * GIB}))
    assert budget.held("m") == {"host": 2 * GIB, "cuda:0": 4 * GIB}
    budget.release("m")
    assert budget.free("cuda:0") == 10 * GIB
    (placement,) = budget.placements("m", ["cuda:0"], GIB)
    assert placement.amounts == {"host": 2 * GIB, "cuda:0": 4 * GIB}


def test_what_the_operator_said_is_a_floor():
    budget = Budget({"host": 10 * GIB})
    budget.reserve("m", {"host": 5 * GIB})
    budget.correct("m", "cpu", Memory(GIB), floor=5 * GIB)
    assert budget.held("m") == {"host": 5 * GIB}


def test_a_measurement_of_nothing_changes_nothing():
    budget = Budget({"host": 10 * GIB})
    budget.reserve("m", {"host": 5 * GIB})
    budget.correct("m", "cpu", Memory(0))
    assert budget.held("m") == {"host": 5 * GIB}


def test_a_model_that_outgrew_the_budget_may_still_have_all_of_it():
    budget = Budget({"host": 2 * GIB})
    budget.reserve("m", {"host": GIB})
    budget.correct("m", "cpu", Memory(3 * GIB))
    budget.release("m")
    (placement,) = budget.placements("m", ["cpu"], GIB)
    assert budget.allowed(placement, {})
