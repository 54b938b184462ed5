"""The installed command with upstreams and routes: a provider that this test plays, and its key in the environment."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from os import environ
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from msgspec.structs import replace

from openai_compat.cli.models import check, list_models
from openai_compat.cli.pull import pull
from openai_compat.cli.serve import warn
from openai_compat.config import Config, Metering, Model, Price, Route, Upstream, UpstreamModel
from openai_compat.errors import ModelNotFound

COMMAND = Path(sys.executable).with_name("openai-compat")
KEY = "sk-nobody-may-see"
PATIENCE = 60
ECHO = Model(kind="echo")


class Provider(BaseHTTPRequestHandler):
    """Has two models, and repeats what it was asked to whoever has the key."""

    def do_GET(self) -> None:
        self._answer({"data": [{"id": "small"}, {"id": "large", "capabilities": ["generate_text"]}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = f"{asked['model']}: {asked['messages'][-1]['content']}"
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        whole = {"id": "c", "created": 1, "model": asked["model"]}
        if asked.get("stream"):
            chunk = {**whole, "object": "chat.completion.chunk", "choices": [{**choice, "delta": {"content": text}}]}
            self._answer(b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n", "text/event-stream")
        else:
            message = {"role": "assistant", "content": text}
            self._answer({**whole, "object": "chat.completion", "choices": [{**choice, "message": message}]})

    def _answer(self, body: Any, kind: str = "application/json") -> None:
        good = self.headers["authorization"] == f"Bearer {KEY}"
        data = body if isinstance(body, bytes) and good else json.dumps(body if good else {"error": {}}).encode()
        self.send_response(200 if good else 401)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Not to the test's output."""


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


@pytest.fixture
def run(tmp_path: Path, provider: str) -> Any:
    """Run the command on a configuration, in which @URL@ is the provider's address."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("OPENAI_", "PORT", "PYTHON"))}
    surroundings = {**kept, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "LAB_KEY": KEY}

    def prepared(text: str, *arguments: str, **variables: str) -> dict[str, Any]:
        (tmp_path / "config.toml").write_text(text.replace("@URL@", provider))
        command = [COMMAND, arguments[0], "--config", "config.toml", *arguments[1:]]
        return {"args": command, "cwd": tmp_path, "env": {**surroundings, **variables}, "text": True}

    def run(text: str, *arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        asked = prepared(text, *arguments, **variables)
        ended: subprocess.CompletedProcess[str] = subprocess.run(**asked, input=stdin, capture_output=True, timeout=PATIENCE)
        assert KEY not in ended.stdout + ended.stderr
        return ended

    @contextmanager
    def serving(text: str) -> Iterator[list[str]]:
        """The lines of the log up to the one that says what to try."""
        asked = prepared(text, "serve", "--port", "0", "--inline")
        with subprocess.Popen(**asked, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            lines: list[str] = []
            try:
                while not (lines and "try it" in lines[-1]) and (line := process.stdout.readline()):
                    lines.append(line)
                yield lines
            finally:
                process.send_signal(signal.SIGTERM)
                lines.extend(process.stdout)
        assert process.returncode == 0, "".join(lines)
        assert KEY not in "".join(lines)

    run.serving = serving  # type: ignore[attr-defined]
    return run


LAB = '[upstreams.lab]\nbase_url = "@URL@"\napi_key_env = "LAB_KEY"\n'
NAMED = LAB + 'models = { "gpt" = { name = "small", capabilities = ["generate_text"] }, "lab/*" = { name = "*" } }\n'


# ---------------------------------------------------------------- check


def test_check_needs_nobody_and_check_online_asks_everybody(run: Any) -> None:
    offline, online = run(NAMED, "check"), run(NAMED, "check", "--online")
    assert (offline.returncode, online.returncode) == (0, 0), online.stderr
    assert re.search(r"^lab +127\.0\.0\.1:\d+ +gpt, lab/\* +not asked: --online *$", offline.stdout, re.MULTILINE)
    assert re.search(r"^lab .*answers, and lists 2 models *$", online.stdout, re.MULTILINE)


def test_check_online_names_each_that_does_not_answer(run: Any) -> None:
    others = '[upstreams.gone]\nbase_url = "http://127.0.0.1:1/v1"\n[upstreams.strict]\nbase_url = "@URL@"\n'
    ended = run(NAMED.replace('"small"', '"tiny"') + others, "check", "--online")
    assert ended.returncode == 1
    assert re.search(r"^lab .*answers, and lists 2 models *\n +does not list tiny *$", ended.stdout, re.MULTILINE)
    assert re.search(r"^gone .*it could not be reached *$", ended.stdout, re.MULTILINE)
    assert re.search(r"^strict .*it answered with status 401 *$", ended.stdout, re.MULTILINE)
    told = {entry["name"]: entry for entry in json.loads(run(NAMED + others, "check", "--online", "--json").stdout)}
    assert (told["lab"]["listed"], told["gone"]["listed"], told["gone"]["failure"]) == (2, None, "it could not be reached")


def test_an_address_with_a_model_in_it_has_no_list_and_is_not_asked(run: Any) -> None:
    text = '[upstreams.azure]\nbase_url = "http://127.0.0.1:1/openai/deployments/{model}"\n'
    ended = run(text, "check", "--online")
    assert ended.returncode == 0
    assert "has no list of models to ask for" in ended.stdout


def test_a_key_that_is_missing_is_a_warning_until_it_is_needed(run: Any) -> None:
    offline, online = (run(NAMED, "check", *flags, LAB_KEY="") for flags in ((), ("--online",)))
    assert (offline.returncode, online.returncode) == (0, 1)
    for ended in (offline, online):
        assert ended.stdout.count("the variable LAB_KEY with its key is not set") == 1


def test_what_an_upstream_lacks_is_said_when_the_server_starts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def upstream(**settings: Any) -> Upstream:
        return Upstream(**{"base_url": "https://x.example.com/v1", **settings})

    upstreams = {
        "keyless": upstream(api_key_env="NO_SUCH_VARIABLE"),
        "fileless": upstream(api_key_file=str(tmp_path / "nothing")),
        "untrusted": upstream(ca_file=str(tmp_path / "nothing")),
        "open": upstream(base_url="http://x.example.com/v1", headers={"Authorization": "x"}),
        "near": upstream(base_url="http://10.0.0.5/v1", headers={"Authorization": "x"}),
        "anonymous": upstream(base_url="http://x.example.com/v1"),
    }
    warn(Config(upstreams=upstreams))
    assert caplog.messages == [
        "the upstream 'keyless': the variable NO_SUCH_VARIABLE with its key is not set",
        "the upstream 'fileless': the file with its key cannot be read: No such file or directory",
        "the upstream 'untrusted': the certificates of its ca_file cannot be read",
        "the upstream 'open': its key goes over the network unencrypted: base_url begins with http://",
    ]


# ---------------------------------------------------------------- models, pull, analyze

CONFIG = Config(
    models={"echo": ECHO},
    upstreams={
        "lab": Upstream(
            base_url="http://127.0.0.1:1/v1",
            models={
                "gpt": UpstreamModel(context_length=9000, capabilities=("generate_text",)),
                "lab/*": UpstreamModel(name="*"),
            },
        ),
        "rest": Upstream(base_url="http://127.0.0.1:1/v1"),
    },
    routes={"fast": Route(targets=("echo", "gpt"))},
    aliases={"mini": "gpt", "quick": "fast", "loud": "echo:shout", "some": "lab/some"},
)


def test_models_of_upstreams_and_routes_are_listed_with_their_aliases(capsys: pytest.CaptureFixture[str]) -> None:
    list_models(CONFIG, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()) for line in lines[2:]] == [
        "gpt mini at lab 9000 generate text",
        "lab/* some at lab",
        "* at rest",
        "fast quick route: echo, gpt",
    ]
    assert re.match(r"echo +loud +here ", lines[1])
    list_models(CONFIG, as_json=True)
    listed = json.loads(capsys.readouterr().out)
    assert [(entry["id"], entry["owned_by"]) for entry in listed][1:] == [
        ("gpt", "lab"),
        ("lab/*", "lab"),
        ("*", "rest"),
        ("fast", ""),
    ]
    assert listed[-1]["targets"] == ["echo", "gpt"]


def test_nothing_is_fetched_for_what_is_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert pull(CONFIG, ())
    assert pull(CONFIG, ("gpt", "fast", "mini"))
    assert capsys.readouterr().err == (
        "echo: ready\n" + "".join(f"{name}: is elsewhere, and needs no files\n" for name in ("gpt", "fast", "mini"))
    )
    with pytest.raises(ModelNotFound):
        pull(Config(models={"echo": ECHO}), ("gpt",))


def test_check_without_models_of_its_own_is_content(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(Config(upstreams={"lab": CONFIG.upstreams["rest"]}), hashes=False, online=False, as_json=False)
    assert capsys.readouterr().out.startswith("upstream ")


@pytest.mark.parametrize(
    ("price", "says"), [(Price(), "warning: metering.cost_per_day limits nothing"), (Price(request=1), "")]
)
def test_check_warns_of_a_limit_of_cost_where_nothing_costs_anything(
    capsys: pytest.CaptureFixture[str], price: Price, says: str
) -> None:
    models = {"m": UpstreamModel(price=price), "free": UpstreamModel()}
    lab = replace(CONFIG.upstreams["rest"], models=models)
    config = Config(upstreams={"lab": lab}, metering=Metering(cost_per_day=5.0))
    assert check(config, hashes=False, online=False, as_json=False), "it is no mistake"
    shown = capsys.readouterr().err
    assert shown.startswith(says)
    assert shown.count("\n") == bool(says)


@pytest.mark.parametrize(("name", "says"), [("gpt", "is a model of the upstream 'lab'"), ("fast", "is a route")])
def test_analyze_says_that_there_are_no_files(run: Any, name: str, says: str) -> None:
    ended = run(NAMED + "[routes.fast]\ntargets = ['gpt']\n", "analyze", name)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert says in ended.stderr


# ---------------------------------------------------------------- serve and chat


def test_what_to_try_works_where_there_is_nothing_but_an_upstream(run: Any) -> None:
    with run.serving(NAMED) as lines:
        assert "models: gpt, lab/*" in lines[0]
        command = re.search(r"try it: (curl .*)", lines[-1])
        assert command is not None
        shell = subprocess.run(["bash", "-c", command[1]], capture_output=True, text=True, timeout=PATIENCE)
    answer = json.loads(shell.stdout)
    assert (answer["model"], answer["choices"][0]["message"]["content"]) == ("gpt", "small: Hello!")


def test_where_no_name_is_known_the_list_is_there_to_try(run: Any) -> None:
    with run.serving(LAB + "discover = true\n") as lines:
        assert "models: *" in lines[0]
        command = re.search(r"try it: (curl .*)", lines[-1])
        assert command is not None
        retried = command[1].replace("curl ", "for i in $(seq 100); do curl -s ", 1) + " | grep large && break; sleep 0.1; done"
        shell = subprocess.run(["bash", "-c", retried], capture_output=True, text=True, timeout=PATIENCE)
    assert [(model["id"], model["owned_by"]) for model in json.loads(shell.stdout)["data"]] == [
        ("small", "lab"),
        ("large", "lab"),
    ]


def test_a_chat_goes_to_a_model_of_an_upstream(run: Any) -> None:
    text = "[server]\nport = 9\ninline = true\n" + NAMED
    ended = run(text, "chat", "lab/large", stdin="are you there\n")
    assert ended.returncode == 0, ended.stderr
    assert "> large: are you there\n" in ended.stdout
