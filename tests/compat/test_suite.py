"""The conformance suite finds what is wrong with a server, and finds nothing wrong with a good one, ours included."""

from __future__ import annotations

import ast
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "tests" / "compat" / "suite"
STORED = ROOT / "docs" / "conformance"
SCRIPT = Path(__file__).with_name("scripted.py")
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is one of the clients, and is not installed")
PLANTED = {
    "chat.whole": "usage that does not add up",
    "chat.request-id": "no x-request-id",
    "chat.stream.one-id": "a chunk with another id",
    "chat.stream.finish-once": "two finish reasons",
    "chat.stream.usage-only-when-asked": "usage that nobody asked for",
    "chat.error.model": "an unknown model that answers",
    "chat.n": "n ignored",
    "chat.logprobs": "logprobs ignored",
    "chat.stop": "stop ignored",
    "chat.tools.forced": "tool_choice ignored",
    "chat.bad.temperature": "a temperature of 9",
    "errors.body.malformed": "another framework's error body",
    "errors.param": "a 500 for what the client did wrong",
    "wire.stream.done": "no [DONE]",
    "models.list": "created as a float",
    "models.one": "an answer that does not come",
    "embeddings.base64": "base64 ignored",
}
"""The checks that a planted defect must make fail, each by another one."""
GOOD = ("chat.stream.text", "errors.no-such-path", "wire.charset", "models.unknown")
"""What the bad server does right."""
BROKEN = {"chat/completions", "chat/completions events", "errors", "models"}
"""The kinds of answers that break the published schema there; the one of an error is a framework's own body."""


@pytest.fixture(scope="module")
def scripted() -> Iterator[Callable[..., str]]:
    """The address of a scripted server."""
    started = []

    def start(*words: str) -> str:
        process = subprocess.Popen([sys.executable, SCRIPT, *words], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"

    yield start
    for process in started:
        process.kill()
        process.communicate()


def found(base_url: str, folder: Path, *words: str, seconds: float = 60, **told: str) -> dict[str, Any]:
    """The suite's results of these checks, run with the packages that the tests run with."""
    results = folder / "results.jsonl"
    told = {"BASE_URL": base_url, "RESULTS": str(results), "SECONDS": str(seconds), **told}
    environ = {**os.environ, "PYTHONPATH": str(SUITE), **{f"CONFORMANCE_{name}": value for name, value in told.items()}}
    command = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "-p",
        "kit.plugin",
        "-q",
        "-W",
        "ignore",
        "-c",
        SUITE / "pytest.ini",
        *words,
    ]
    done = subprocess.run(command, cwd=SUITE, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return imported("kit.results").merged(imported("kit.results").read(results))


def imported(name: str) -> Any:
    """A module of the suite, which is no package of ours."""
    sys.path.insert(0, str(SUITE))
    try:
        return __import__(name, fromlist=["_"])
    finally:
        sys.path.remove(str(SUITE))


def selected() -> list[str]:
    """The files and functions of the checks that the scripted server is asked."""
    wanted = {*PLANTED, *GOOD}
    files = [path for path in (SUITE / "checks").glob("check_*.py") if path.stem not in {"check_anthropic", "check_responses"}]
    functions = {path: ast.parse(path.read_text()).body for path in files}
    named = [f"{path}::{node.name}" for path, nodes in functions.items() for node in nodes if _id(node) in wanted]
    made = {"chat.bad.temperature": "check_openai_python_fields.py::check_bad_temperature"}
    made["errors.body.malformed"] = "check_curl_errors.py::check_body_malformed"
    return [*named, *(str(SUITE / "checks" / place) for place in made.values())]


def _id(node: ast.stmt) -> str:
    if not isinstance(node, ast.FunctionDef) or not node.decorator_list or not isinstance(node.decorator_list[0], ast.Call):
        return ""
    first = node.decorator_list[0].args[0]
    return str(first.value) if isinstance(first, ast.Constant) else ""


def outcomes(results: dict[str, Any]) -> dict[str, str]:
    return {check["id"]: check["status"] for check in results["checks"]}


def test_a_good_server_passes_every_check(scripted, tmp_path) -> None:
    results = found(scripted(), tmp_path, *selected(), MODEL="m", EMBEDDING_MODEL="m")
    assert outcomes(results) == dict.fromkeys((*PLANTED, *GOOD), "pass"), results
    assert [row for row in results["schema"] if row["wrong"]] == []


def test_each_planted_defect_is_found_and_nothing_else(scripted, tmp_path) -> None:
    results = found(scripted("bad"), tmp_path, *selected(), seconds=3, MODEL="m", EMBEDDING_MODEL="m")
    assert outcomes(results) == {**dict.fromkeys(PLANTED, "fail"), **dict.fromkeys(GOOD, "pass")}
    assert {row["of"] for row in results["schema"] if row["wrong"]} == BROKEN
    assert "timed out" in next(check["reason"] for check in results["checks"] if check["id"] == "models.one")


def test_what_was_planned_and_did_not_end_has_failed() -> None:
    planned = {"kind": "planned", "id": "a", "says": "", "client": "curl", "needs": [], "promise": "openai"}
    merged = imported("kit.results").merged([planned])
    assert [(check["status"], check["reason"]) for check in merged["checks"]] == [("fail", "did not end")]


def test_a_route_that_is_not_there_is_skipped_with_the_reason(scripted, tmp_path) -> None:
    results = found(scripted(), tmp_path, "checks/check_completions.py", MODEL="m")
    assert set(outcomes(results).values()) == {"skip"}
    assert {check["reason"] for check in results["checks"]} == {"absent: /completions is answered with 404"}


EVENT = {"type": "response.output_text.delta", "sequence_number": 1, "item_id": "m", "output_index": 0, "content_index": 0}
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "usage": None}


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("ResponseStreamEvent", {**EVENT, "delta": "x", "logprobs": []}, ""),
        ("ResponseStreamEvent", {**EVENT, "delta": 5, "logprobs": []}, ".delta: 5 is not of type 'string'"),
        ("ResponseStreamEvent", {**EVENT, "logprobs": []}, "'delta' is a required property"),
        ("ResponseStreamEvent", {"type": "response.smell"}, ".type: 'response.smell' is not one of"),
        ("CreateChatCompletionStreamResponse", {**CHUNK, "choices": []}, ""),
        (
            "CreateChatCompletionStreamResponse",
            {**CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": ""}]},
            ".choices[0].finish_reason: '' is not one of",
        ),
        ("CreateChatCompletionStreamResponse", {**CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": None}]}, ""),
        ("CreateChatCompletionStreamResponse", {**CHUNK, "choices": [], "usage": {}}, "is a required property"),
        ("ErrorResponse", {"error": {"message": "m", "type": "t", "param": None, "code": 400}}, ".error.code: 400 is not"),
        ("ErrorResponse", {"error": {"message": "m", "type": "t", "param": None, "code": None}}, ""),
        ("Model", {"id": "m", "object": "model", "created": 1.5, "owned_by": "x"}, ".created: 1.5 is not of type 'integer'"),
    ],
)
def test_the_schema_tells_good_answers_from_bad_ones(name, value, wrong) -> None:
    told = imported("kit.schema").violations(name, value)
    assert wrong in "; ".join(told)
    assert bool(told) == bool(wrong)


class _Odd(BaseHTTPRequestHandler):
    """Asks for a key, lists no models, or serves something else."""

    def do_GET(self) -> None:
        status, body = {"/key/models": (401, b"{}"), "/none/models": (200, b'{"data": []}')}.get(self.path, (200, b"<html>"))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.send_error(401)

    def log_message(self, *_: Any) -> None: ...


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/key", []),
        ("/key", ["--model", "m"]),
        ("/none", []),
        ("/page", []),
        (None, []),
        (None, ["--model", "m"]),
        ("", []),
        ("no address", []),
    ],
)
def test_where_there_is_no_such_server_a_sentence_says_so(path: str | None, words: list[str], tmp_path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Odd) as odd, socket.socket() as deaf:
        threading.Thread(target=odd.serve_forever, args=(0.05,)).start()
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1] if path is None else odd.server_address[1]
        url = path if path in ("", "no address") else f"http://127.0.0.1:{port}{path or ''}"
        command = [sys.executable, SUITE / "run.py", "--base-url", url, "--folder", tmp_path, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        odd.shutdown()
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "BASE_URL=" in done.stderr


def test_the_suite_imports_nothing_of_this_project() -> None:
    ours = {"openai_compat", "handlers", "routes", "schemas", "training"}
    for path in SUITE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & ours, path


def test_the_page_is_made_of_the_stored_results() -> None:
    page = imported("page")
    assert (ROOT / "docs" / "conformance.md").read_text() == page.rendered(page.stored(STORED))


def test_the_stored_results_are_of_all_checks_of_today() -> None:
    stored = json.loads((STORED / "openai-compat.json").read_text())
    ids = {_id(node) for path in (SUITE / "checks").glob("*.py") for node in ast.parse(path.read_text()).body} - {""}
    assert ids <= {check["id"] for check in stored["checks"]}


def test_this_server_passes(server, model, tmp_path) -> None:
    results = found(server.base_url, tmp_path, "checks/check_openai_python_chat.py", MODEL=model)
    assert {check["id"]: check["reason"] for check in results["checks"] if check["status"] != "pass"} == {}
    assert [row for row in results["schema"] if row["wrong"]] == []


@pytest.mark.slow
def test_this_server_passes_all_that_needs_no_other_package(server, model, tmp_path) -> None:
    names = ("openai_python_fields", "openai_python_messages", "curl_errors", "curl_wire", "completions", "responses")
    results = found(server.base_url, tmp_path, *(f"checks/check_{name}.py" for name in names), MODEL=model)
    assert {check["id"]: check["reason"] for check in results["checks"] if check["status"] == "fail"} == {}
    assert [row for row in results["schema"] if row["wrong"]] == []
