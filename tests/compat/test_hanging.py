"""A model that hangs, in each way in which one can: its clients are told, and the next ones are served by a new process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import psutil
import pytest

HANDLER = '''
import time

from handlers.echo import EchoHandler


class HangingHandler(EchoHandler):
    """Repeats what it is told, unless that is an order to hang."""

    def generate_text(self, request, ctx):
        said = str(request.messages or request.prompts)
        if "sleep for ever" in said:
            time.sleep(3600)
        if "hold the lock" in said:
            sum(range(10**14))  # one call of C, in which no other thread of the process runs
        if "go slowly" in said:
            for _ in range(15):
                time.sleep(0.2)
                ctx.check()
        return super().generate_text(request, ctx)
'''
CONFIG = '[workers]\nfork_server = false\nheartbeat = 0.1\n[models.m]\nkind = "hanging"\nstep_timeout = 1.0\n'


@pytest.fixture(scope="module")
def server(serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("hanging")
    facts = folder / "site" / "hanging-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts.parent / "hanging.py").write_text(HANDLER)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: hanging\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[openai_compat.handlers]\nhanging = hanging:HangingHandler\n")
    config = folder / "config.toml"
    config.write_text(CONFIG)
    running = serve(config, folder, env={"PYTHONPATH": str(facts.parent)})
    yield running
    assert running.stop() == 0


@pytest.fixture
def client(server: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


def say(client: openai.OpenAI, text: str) -> str | None:
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}]).choices[0].message.content


def worker_of(server: Any) -> int:
    (worker,) = psutil.Process(server.process.pid).children()
    return worker.pid


@pytest.mark.parametrize("order", ["sleep for ever", "hold the lock"])
def test_a_step_that_never_ends_ends_the_process_and_the_next_request_is_served(
    server: Any, client: openai.OpenAI, order: str
) -> None:
    assert say(client, "Hi") == "Hi"
    before = worker_of(server)
    with pytest.raises(openai.InternalServerError) as caught:
        say(client, order)
    assert caught.value.code == "worker_died"
    assert say(client, "Hi again") == "Hi again"
    assert worker_of(server) != before


def test_what_a_stopped_process_has_not_begun_is_answered_by_the_next_one(server: Any, client: openai.OpenAI) -> None:
    assert say(client, "Hi") == "Hi"
    before = worker_of(server)
    os.kill(before, signal.SIGSTOP)
    assert say(client, "Hi again") == "Hi again"
    assert not psutil.pid_exists(before)


def test_a_process_that_is_stopped_in_a_request_is_ended_and_its_client_told(server: Any, client: openai.OpenAI) -> None:
    assert say(client, "Hi") == "Hi"
    before = worker_of(server)
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(say, client, "go slowly")
        time.sleep(1.0)
        os.kill(before, signal.SIGSTOP)
        with pytest.raises(openai.InternalServerError) as caught:
            answer.result()
    assert caught.value.code == "worker_died"
    assert say(client, "Hi again") == "Hi again"
    assert not psutil.pid_exists(before)


def test_a_model_that_is_slow_but_makes_its_steps_is_left_alone(server: Any, client: openai.OpenAI) -> None:
    assert say(client, "Hi") == "Hi"
    before = worker_of(server)
    assert say(client, "go slowly") == "go slowly"
    assert worker_of(server) == before
