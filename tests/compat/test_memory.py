"""A model whose memory runs out, for real: its process may have so much address space and no more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest

HUNGRY = '''
"""Eats as many megabytes as it is told, in a process that may have 512 beside what it has; says which process it is."""

import os
import resource
import time

from handlers import types as t
from handlers.base import BaseHandler


class HungryHandler(BaseHandler):
    modes = {"auto": t.Mode(description="Eats.")}

    @classmethod
    def analyze(cls, spec):
        return t.Analysis(architecture="hungry", parameters=0, dtype="none", bytes_per_dtype={}, load_bytes=1,
                          capabilities=("generate_text",), modes=("auto",))

    @classmethod
    def validate_model_files(cls, spec):
        return ()

    def load_model(self, report):
        pages = int(open("/proc/self/statm").read().split()[0])
        most = pages * resource.getpagesize() + (512 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def generate_text(self, request, ctx):
        what, _, amount = str(request.prompts[0]).partition(" ")
        eaten = bytearray(int(amount) << 20) if what == "eat" else b""
        for _ in range(int(amount) if what == "count" else 1):
            ctx.emit(t.TextDelta(index=0, text=f"{os.getpid()} "))
            time.sleep(0.1 if what == "count" else 0)
        choice = t.TextChoice(index=0, text=f"{os.getpid()} {len(eaten)}", finish_reason="stop")
        return t.TextResult(choices=(choice,), usage=t.Usage())
'''


@pytest.fixture(scope="module")
def hungry(tmp_path_factory: pytest.TempPathFactory, server: Any) -> Iterator[openai.OpenAI]:
    folder = tmp_path_factory.mktemp("hungry")
    facts = folder / "site" / "hungry-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts.parent / "hungry.py").write_text(HUNGRY)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: hungry\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[openai_compat.handlers]\nhungry = hungry:HungryHandler\n")
    (folder / "config.toml").write_text('[models.hungry]\nsource = ""\nkind = "hungry"\n')
    running = type(server)(folder / "config.toml", folder, env={"PYTHONPATH": str(facts.parent)})
    with openai.OpenAI(base_url=running.base_url, api_key="none") as client:
        yield client
    assert running.stop() == 0, running.log.read_text()


def said(client: openai.OpenAI, prompt: str) -> list[int]:
    """The process that answered, and how much it ate."""
    return [int(word) for word in client.completions.create(model="hungry", prompt=prompt).choices[0].text.split()]


def test_a_request_that_needs_more_memory_than_there_is_is_a_503_and_the_next_has_a_fresh_process(hungry) -> None:
    first, eaten = said(hungry, "eat 64")
    assert eaten == 64 << 20
    with pytest.raises(openai.InternalServerError) as caught:  # once: a client's automatic retry would only do it again
        said(hungry, "eat 4096")
    assert caught.value.status_code == 503
    assert caught.value.code == "insufficient_memory"
    assert caught.value.response.headers["x-should-retry"] == "false"
    second, _ = said(hungry, "eat 64")
    assert second != first
    assert said(hungry, "eat 64")[0] == second


def test_who_was_before_it_and_behind_it_is_answered(hungry) -> None:
    first, _ = said(hungry, "eat 1")
    outcomes: list[Any] = []

    def ask(prompt: str) -> None:
        try:
            outcomes.append(said(hungry, prompt)[0])
        except openai.APIStatusError as error:
            outcomes.append(error.status_code)

    asking = [threading.Thread(target=ask, args=(prompt,)) for prompt in ("count 5", "eat 4096", "eat 2", "eat 3")]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(60)
    assert sorted(outcome == 503 for outcome in outcomes) == [False, False, False, True]
    assert first in outcomes
