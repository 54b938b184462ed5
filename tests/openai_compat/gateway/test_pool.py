"""The pool over real processes: who is loaded, who waits, who must go."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from openai_compat.errors import (
    Conflict,
    InsufficientMemory,
    ModelLoading,
    ModelNotFound,
    ModelUnavailable,
    ShuttingDown,
    WorkerDied,
)
from openai_compat.gateway.replica import ReplicaLost

MIB = 1024**2


def test_many_requests_cause_one_load(arena):
    async def scenario():
        async with arena({"a": {"options": {"load": 0.3}}}) as world:
            answers = await asyncio.gather(*(world.ask("a", n=number) for number in range(20)))
            assert world.starts("a") == 1
            assert [answer["body"]["n"] for answer in answers] == list(range(20))

    asyncio.run(scenario())


def test_two_models_that_fit_one_at_a_time_alternate_and_are_never_alive_together(arena):
    async def scenario():
        async with arena({"a": {}, "b": {}}, host=150 * MIB) as world:
            for _ in range(3):
                for model in ("a", "b"):
                    assert (await world.ask(model))["facts"]["model"] == "m"
            await world.until(lambda: world.state("a") == "unloaded")
        alive = set()
        for what, _, pid, *_ in world.events():
            alive = alive | {pid} if what == "start" else alive - {pid}
            assert len(alive) <= 1
        assert world.starts("a") == world.starts("b") == 3

    asyncio.run(scenario())


def test_an_operator_ends_an_idle_model_pinned_or_not_and_none_that_works(arena):
    async def scenario():
        async with arena({"a": {"pin": True, "preload": True}, "b": {}}) as world:
            assert world.pool.unload("b").state == "unloaded"
            await world.until_state("a", "ready")
            lease = await world.pool.acquire("a", request_id="1")
            with pytest.raises(Conflict, match="is at work"):
                world.pool.unload("a")
            lease.abandon()
            assert world.pool.unload("a").state == "unloading"
            await world.until_state("a", "unloaded")
            await asyncio.sleep(0.1)
            assert world.state("a") == "unloaded"
            await world.ask("a")
            with pytest.raises(ModelNotFound):
                world.pool.unload("nobody")

    asyncio.run(scenario())


def test_a_load_that_waits_for_room_is_dropped_by_an_unload_and_one_that_begins_is_not(arena):
    async def scenario():
        async with arena({"a": {}, "b": {}}, host=150 * MIB) as world:
            lease = await world.pool.acquire("a", request_id="1")
            world.pool.load("b")
            with pytest.raises(Conflict, match="is at work"):
                world.pool.unload("b")
            await asyncio.sleep(0.3)  # it waits for the room that the other takes
            assert world.pool.unload("b").state == "unloaded"
            lease.abandon()
            await asyncio.sleep(0.3)
            assert world.starts("b") == 0
            await world.ask("b")

    asyncio.run(scenario())


def test_the_longest_unused_model_goes_first(arena):
    async def scenario():
        async with arena({"a": {}, "b": {}, "c": {}}, host=250 * MIB) as world:
            await world.ask_in_turn("a", "b", "a", "c")
            assert (world.state("a"), world.state("b"), world.state("c")) == ("ready", "unloaded", "ready")

    asyncio.run(scenario())


def test_no_more_models_go_than_room_is_needed(arena):
    async def scenario():
        models = {"small": {"memory": 50 * MIB}, "large": {"memory": 200 * MIB}, "new": {"memory": 150 * MIB}}
        async with arena(models, host=260 * MIB) as world:
            await world.ask_in_turn("small", "large", "new")
            assert (world.state("small"), world.state("large")) == ("ready", "unloaded")

    asyncio.run(scenario())


def test_a_pinned_model_stays_and_what_cannot_fit_beside_it_is_refused(arena):
    async def scenario():
        async with arena({"a": {"pin": True, "idle_timeout": 0}, "b": {}}, host=150 * MIB) as world:
            await world.ask("a")
            with pytest.raises(InsufficientMemory, match=r"100 MiB on host.*150 MiB and pinned models hold 100 MiB"):
                await world.ask("b")
            assert world.state("a") == "ready"

    asyncio.run(scenario())


def test_a_model_that_can_never_fit_is_refused_at_once_with_both_numbers(arena):
    async def scenario():
        async with arena({"huge": {"memory": "3GiB"}}, host=1024 * MIB) as world:
            with pytest.raises(InsufficientMemory, match=r"needs 3.0 GiB on host.*budget.*1.0 GiB") as caught:
                await world.pool.acquire("huge")
            assert caught.value.retry is False
            assert world.starts("huge") == 0

    asyncio.run(scenario())


def test_an_unused_model_is_unloaded_after_its_idle_time(arena):
    async def scenario():
        async with arena({"a": {"idle_timeout": 0.2}}) as world:
            await world.ask("a")
            await world.until_state("a", "unloaded")
            await world.ask("a")
            assert world.starts("a") == 2

    asyncio.run(scenario())


def test_a_preloaded_model_is_ready_without_a_request(arena):
    async def scenario():
        async with arena({"a": {"preload": True}, "b": {}}) as world:
            await world.until_state("a", "ready")
            assert world.state("b") == "unloaded"

    asyncio.run(scenario())


def test_a_server_whose_preloaded_model_was_unloaded_since_is_as_ready_as_before(arena):
    async def scenario():
        async with arena({"a": {"preload": True, "idle_timeout": 0.2, "options": {"load": 0.2}}, "b": {}}) as world:
            assert not world.pool.preloaded
            await world.until_state("a", "ready")
            await world.until_state("a", "unloaded")
            assert world.pool.preloaded
            await asyncio.sleep(0.5)
            assert world.starts("a") == 1

    asyncio.run(scenario())


def test_a_preloaded_model_that_dies_comes_back_by_itself(arena):
    async def scenario():
        async with arena({"a": {"preload": True}}) as world:
            for starts in (2, 3):
                await world.until_state("a", "ready")
                os.kill(int(world.events()[-1][2]), signal.SIGKILL)
                await world.until(lambda starts=starts: world.starts("a") == starts)
            await world.until_state("a", "ready")

    asyncio.run(scenario())


def test_a_preload_that_fails_is_tried_again(arena):
    async def scenario():
        async with arena({"a": {"preload": True, "options": {"crash": True}}}) as world:
            await world.until(lambda: world.starts("a") == 3)
            assert not world.pool.preloaded

    asyncio.run(scenario())


def test_a_load_that_fails_in_an_unforeseen_way_is_a_failure_like_any_other(arena, monkeypatch):
    async def scenario():
        async with arena({"a": {}}) as world:
            with monkeypatch.context() as patch:
                patch.setattr(world.supervisor, "_order", lambda *_: 1 / 0)
                with pytest.raises(ModelUnavailable, match="could not be started") as caught:
                    await world.pool.acquire("a", wait=20)
            assert world.state("a") == "failed"
            await asyncio.sleep(caught.value.retry_after)
            await world.ask("a")

    asyncio.run(scenario())


def test_a_worker_that_says_nothing_any_more_is_ended(arena):
    async def scenario():
        async with arena({"a": {}}) as world:
            pid = (await world.ask("a"))["pid"]
            os.kill(pid, signal.SIGSTOP)
            with pytest.raises(ReplicaLost):
                await world.ask("a")
            assert (await world.ask("a"))["pid"] != pid

    asyncio.run(scenario())


def test_a_worker_whose_memory_ran_out_answers_what_it_has_and_is_replaced(arena, tmp_path):
    async def scenario():
        async with arena({"a": {"pin": True}}) as world:
            beside = asyncio.ensure_future(world.ask("a", hold=str(tmp_path / "go")))
            await world.until(lambda: next(iter(world.pool.states())).active == 1)
            exhausted = await world.ask("a", exhausted=True)
            later = asyncio.ensure_future(world.ask("a"))
            await world.until(lambda: next(iter(world.pool.states())).waiting == 1)
            assert not later.done()
            (tmp_path / "go").touch()
            assert (await beside)["pid"] == exhausted["pid"]
            assert (await later)["pid"] != exhausted["pid"]
            assert world.starts("a") == 2

    asyncio.run(scenario())


def test_a_preloaded_model_whose_memory_ran_out_comes_back_by_itself(arena):
    async def scenario():
        async with arena({"a": {"preload": True}}) as world:
            await world.ask("a", exhausted=True)
            await world.until(lambda: world.starts("a") == 2)
            await world.until_state("a", "ready")

    asyncio.run(scenario())


def test_a_worker_that_does_not_let_go_of_a_request_is_ended(arena, monkeypatch, tmp_path):
    monkeypatch.setattr("openai_compat.gateway.slot.HUNG", 0.5)

    async def scenario():
        async with arena({"a": {}}) as world:
            script = {"stream": True, "chunks": 1000, "delay": 0.05, "linger": str(tmp_path / "never")}
            with await world.pool.acquire("a", request_id="r") as lease:
                chunks = world.stream(lease, **script)
                await anext(chunks)
                await chunks.aclose()
            await world.until_state("a", "unloaded")
            assert world.pool.states()[0].active == 0
            await world.ask("a")
            assert world.starts("a") == 2

    asyncio.run(scenario())


def test_a_slow_load_is_a_503_with_retry_after_and_the_retry_joins_it(arena):
    async def scenario():
        async with arena({"a": {"load_timeout": 0.1, "options": {"load": 0.8}}}) as world:
            with pytest.raises(ModelLoading) as caught:
                await world.ask("a")
            assert caught.value.retry_after
            (await world.pool.acquire("a", wait=30)).abandon()
            assert world.starts("a") == 1

    asyncio.run(scenario())


def test_a_load_that_never_ends_is_ended(arena):
    async def scenario():
        async with arena({"a": {"max_load_time": 0.5, "options": {"load": 60}}}) as world:
            with pytest.raises(ModelUnavailable, match=r"longer than 0\.5 s"):
                await world.ask("a")

    asyncio.run(scenario())


def test_a_busy_model_is_not_ended_and_its_new_requests_queue_behind_the_one_that_needs_the_room(arena, tmp_path):
    async def scenario():
        async with arena({"a": {}, "b": {}}, host=150 * MIB) as world:
            gate = tmp_path / "gate"
            order = []

            async def ask(name, model, **script):
                await world.ask(model, **script)
                order.append(name)

            first = asyncio.create_task(ask("a1", "a", hold=str(gate)))
            await world.until(lambda: world.events() and world.state("a") == "ready")
            other = asyncio.create_task(ask("b", "b"))
            await world.until(lambda: any(slot.draining for slot in world.pool._residents.slots.values()))
            second = asyncio.create_task(ask("a2", "a"))
            await asyncio.sleep(0.2)
            assert order == []
            assert world.starts("b") == 0
            gate.touch()
            await asyncio.gather(first, other, second)
            assert order == ["a1", "b", "a2"]

    asyncio.run(scenario())


def test_a_busy_model_serves_on_once_nobody_needs_its_room_any_more(arena, tmp_path):
    async def scenario():
        async with arena({"a": {}, "b": {}}, host=150 * MIB) as world:
            gate = tmp_path / "gate"
            held = asyncio.create_task(world.ask("a", hold=str(gate)))
            await world.until_state("a", "ready")
            leaver = asyncio.create_task(world.ask("b"))
            await world.until(lambda: any(slot.draining for slot in world.pool._residents.slots.values()))
            waiting = asyncio.create_task(world.ask("a"))
            leaver.cancel()
            await waiting
            gate.touch()
            await held
            assert (world.starts("a"), world.starts("b")) == (1, 0)

    asyncio.run(scenario())


def test_waiting_for_room_ends_with_a_503(arena, tmp_path):
    async def scenario():
        async with arena({"a": {}, "b": {"load_timeout": 0.2}}, host=150 * MIB) as world:
            gate = tmp_path / "gate"
            held = asyncio.create_task(world.ask("a", hold=str(gate)))
            await world.until_state("a", "ready")
            with pytest.raises(ModelLoading):
                await world.ask("b")
            gate.touch()
            await held

    asyncio.run(scenario())


def test_a_lease_lasts_until_the_worker_is_done_not_until_the_consumer_leaves(arena, tmp_path):
    asyncio.run(_consumer_leaves(arena, tmp_path, silent=False))


def test_a_lease_without_a_word_from_the_worker_ends_with_its_heartbeats(arena, tmp_path):
    asyncio.run(_consumer_leaves(arena, tmp_path, silent=True))


async def _consumer_leaves(arena, tmp_path, *, silent):
    async with arena({"a": {}, "b": {}}, host=150 * MIB) as world:
        linger = tmp_path / "linger"
        with await world.pool.acquire("a", request_id="r") as lease:
            chunks = world.stream(lease, stream=True, chunks=1000, delay=0.05, linger=str(linger), silent=silent)
            await anext(chunks)
            await chunks.aclose()
        other = asyncio.create_task(world.ask("b"))
        await world.until(lambda: any(event[0] == "disconnected" for event in world.events()))
        await asyncio.sleep(0.5)
        assert world.starts("b") == 0
        linger.touch()
        await other
        assert world.starts("b") == 1


def test_a_model_that_dies_after_serving_is_loaded_again_by_the_next_request(arena):
    async def scenario():
        async with arena({"a": {}}) as world:
            pid = (await world.ask("a"))["pid"]
            os.kill(pid, signal.SIGKILL)
            await world.until_state("a", "unloaded")
            assert (await world.ask("a"))["pid"] != pid
            assert world.starts("a") == 2

    asyncio.run(scenario())


def test_a_model_that_dies_again_before_it_served_is_held_back(arena):
    async def scenario():
        async with arena({"a": {}}) as world:
            for _ in range(2):
                (await world.pool.acquire("a")).abandon()
                os.kill(int(world.events()[-1][2]), signal.SIGKILL)
                await world.until_state("a", "unloaded")
            with pytest.raises(ModelUnavailable) as caught:
                await world.pool.acquire("a")
            assert 0 < caught.value.retry_after <= 0.3

    asyncio.run(scenario())


def test_failing_loads_back_off_longer_and_longer_and_say_why(arena):
    async def scenario():
        async with arena({"a": {"options": {"fail": "The weights are not there."}}}) as world:
            pauses = []
            for _ in range(3):
                with pytest.raises(ModelUnavailable, match="The weights are not there") as caught:
                    await world.pool.acquire("a")
                with pytest.raises(ModelUnavailable, match="failed a moment ago") as held:
                    await world.pool.acquire("a")
                assert 0 < held.value.retry_after <= caught.value.retry_after
                pauses.append(caught.value.retry_after)
                await asyncio.sleep(held.value.retry_after)
            assert pauses == [0.3, 0.6, 1.2]
            assert world.starts("a") == 3

    asyncio.run(scenario())


def test_a_worker_that_dies_while_loading_is_a_503(arena):
    async def scenario():
        async with arena({"a": {"options": {"crash": True}}}) as world:
            with pytest.raises(WorkerDied):
                await world.ask("a")
            assert world.state("a") == "failed"

    asyncio.run(scenario())


def test_what_was_measured_counts_for_the_next_time(arena):
    async def scenario():
        models = {
            "a": {"memory": None, "options": {"memory": 300 * MIB}},
            "b": {"memory": None, "options": {"memory": 10 * MIB}},
        }
        async with arena(models, host=350 * MIB) as world:
            await world.ask("a")
            assert {state.model_id: state.memory for state in world.pool.states()} == {"a": {"host": 300 * MIB}, "b": {}}
            await world.ask("b")  # was thought to take 100 MiB, so a had to go
            assert world.state("a") == "unloaded"
            await world.ask("a")
            assert (world.state("a"), world.state("b")) == ("ready", "ready")

    asyncio.run(scenario())


def test_a_model_goes_to_the_first_of_its_devices_with_room(arena):
    async def scenario():
        models = {name: {"device": ("cuda:0", "cpu")} for name in ("a", "b")}
        async with arena(models, limits={"host": 500 * MIB, "cuda:0": 150 * MIB}) as world:
            await world.ask("a")
            await world.ask("b")
            assert [event[1:4:2] for event in world.events()] == [["a", "cuda:0"], ["b", "cpu"]]

    asyncio.run(scenario())


def test_files_that_cannot_be_used_are_refused_without_a_start(arena):
    async def scenario():
        async with arena({"a": {}}) as world:
            world.catalog.failure = ModelUnavailable("Its files are not there.")
            with pytest.raises(ModelUnavailable, match="not there"):
                await world.ask("a")
            world.catalog.failure = None
            await world.ask("a")
            assert world.starts("a") == 1

    asyncio.run(scenario())


def test_an_unknown_model_is_not_found(arena):
    async def scenario():
        async with arena({"a": {}}) as world:
            with pytest.raises(ModelNotFound):
                await world.pool.acquire("b")

    asyncio.run(scenario())


def test_closing_refuses_who_waits_and_leaves_no_process(arena):
    async def scenario():
        async with arena({"a": {"options": {"load": 60}}}) as world:
            waiting = asyncio.create_task(world.ask("a"))
            await world.until(lambda: world.starts("a"))
            closing = asyncio.create_task(world.pool.close())
            with pytest.raises(ShuttingDown):
                await waiting
            await closing
            with pytest.raises(ShuttingDown):
                await world.ask("a")

    asyncio.run(scenario())


def test_loading_is_told_to_whoever_listens(arena):
    async def scenario():
        async with arena({"a": {}}) as world:
            seen = []

            async def listen():
                async for state in world.pool.subscribe():
                    seen.append((state.state, state.stage, state.done, state.total))

            listener = asyncio.create_task(listen())
            await asyncio.sleep(0)
            await world.ask("a")
            listener.cancel()
            assert [state for state, *_ in seen[:2]] == ["unloaded", "loading"]
            assert ("loading", "loading", 1, 2) in seen
            assert seen[-1][0] == "ready"

    asyncio.run(scenario())


def test_one_request_id_used_twice_makes_two_leases(arena):
    async def scenario():
        async with arena({"a": {}}) as world:
            first = await world.pool.acquire("a", request_id="same")
            second = await world.pool.acquire("a", request_id="same")
            assert first.request_id != second.request_id
            first.abandon()
            assert world.pool.states()[0].active == 1
            second.abandon()
            assert world.pool.states()[0].active == 0

    asyncio.run(scenario())
