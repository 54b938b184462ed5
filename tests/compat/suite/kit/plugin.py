"""Runs the checks under pytest: what they need, how long they may take, what went by meanwhile, and how they ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from kit.capabilities import Capabilities
from kit.checks import Check, declared
from kit.contract import Verdict, verdict
from kit.curl import Curl
from kit.node import Node
from kit.recorder import Exchange, Recorder
from kit.results import Log, short
from kit.server import LIMIT, Server, from_environment, through

CHECK = pytest.StashKey[Check]()


class Late(Exception):
    """A check took too long."""


class Suite:
    """One run of pytest against one server."""

    def __init__(self) -> None:
        target = from_environment()
        self.recorder = Recorder(target.target, target.headers)
        self.server = from_environment(through(self.recorder.origin, target.target))
        self.capabilities = Capabilities(self.server)
        self.log = Log(Path(os.environ["CONFORMANCE_RESULTS"]))
        self.prefix = urlsplit(target.target).path

    @pytest.hookimpl(trylast=True)  # after pytest has left out what was not selected
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            check = item.stash[CHECK] = declared(item)
            self.log.add("planned", id=check.id, says=check.says, client=check.client, needs=check.needs, promise=check.promise)
        ids = [item.stash[CHECK].id for item in items]
        if twice := {id for id in ids if ids.count(id) > 1}:
            raise pytest.UsageError(f"two checks have the id {', '.join(sorted(twice))}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        began = time.monotonic()
        self.recorder.exchanges(patience=0)
        item.stash[OUTCOME] = {"status": "pass", "reason": ""}
        result = yield
        check = item.stash[CHECK].id
        for exchange in self.recorder.exchanges():
            if found := self.judged(exchange):
                self.log.add("exchange", check=check, of=found.kind, wrong=found.wrong)
        self.log.add("outcome", id=check, seconds=round(time.monotonic() - began, 2), **item.stash[OUTCOME])
        return result

    def judged(self, exchange: Exchange) -> Verdict | None:
        """Whatever a server sends, the run goes on."""
        try:
            return verdict(exchange, self.prefix)
        except Exception as error:
            return Verdict(kind="unreadable", wrong=(short(f"{exchange.request.path}: {error!r}"),))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        for need in item.stash[CHECK].needs:
            if why := self.capabilities.missing(need):
                pytest.skip(f"absent: {why}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Ends what hangs: a signal breaks into whatever the main thread waits for."""

        def late(*_: Any) -> None:
            raise Late(f"took longer than {LIMIT:g} s")

        before = signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, LIMIT)
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
        report = yield
        if report.failed:
            item.stash[OUTCOME] = {"status": "fail", "reason": short(call.excinfo.exconly() if call.excinfo else "failed")}
        elif report.skipped and item.stash[OUTCOME]["status"] == "pass":
            item.stash[OUTCOME] = {"status": "skip", "reason": short(_why(report))}
        return report


OUTCOME = pytest.StashKey[dict[str, str]]()


def _why(report: Any) -> str:
    if hasattr(report, "wasxfail"):
        return f"expected to fail: {report.wasxfail}"
    return report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else str(report.longrepr)


def pytest_configure(config: pytest.Config) -> None:
    suite = Suite()
    config.pluginmanager.register(suite, "conformance")


@pytest.fixture(scope="session")
def suite(request: pytest.FixtureRequest) -> Suite:
    found: Suite = request.config.pluginmanager.get_plugin("conformance")
    return found


@pytest.fixture(scope="session")
def server(suite: Suite) -> Server:
    """The server under test, through the recorder."""
    return suite.server


@pytest.fixture(scope="session")
def capabilities(suite: Suite) -> Capabilities:
    return suite.capabilities


@pytest.fixture(scope="session")
def curl(server: Server) -> Curl:
    """Plain HTTP, by the curl of the system."""
    return Curl(server)


@pytest.fixture(scope="session")
def node(server: Server) -> Node:
    """Scenarios of the JavaScript SDKs."""
    return Node(server)


@pytest.fixture
def openai_client(server: Server) -> Iterator[Any]:
    """OpenAI's Python SDK; it does not try twice, so that what the server says is seen."""
    import openai

    from kit.server import SECONDS

    with openai.OpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0, timeout=SECONDS) as client:
        yield client


@pytest.fixture
def anthropic_client(server: Server) -> Iterator[Any]:
    """Anthropic's Python SDK."""
    import anthropic

    from kit.server import SECONDS

    with anthropic.Anthropic(base_url=server.origin, api_key=server.api_key, max_retries=0, timeout=SECONDS) as client:
        yield client
