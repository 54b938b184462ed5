"""The installed command, as a person types it, with models that need no files."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from openai_compat.auth import hash_key
from openai_compat.settings import load

COMMAND = Path(sys.executable).with_name("openai-compat")
ECHO = '[models.echo]\nsource = ""\nkind = "echo"\n'
PATIENCE = 60


@pytest.fixture
def here(tmp_path):
    """A folder to work in: with a configuration, no user's own one, and packages of our names that must not be imported."""
    for name in ("handlers", "routes", "schemas", "openai_compat"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('imported from the current folder')\n")
    (tmp_path / "config.toml").write_text(ECHO)
    return tmp_path


def environment(here: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "PORT", "PYTHON"))}
    return {**kept, "HOME": str(here), "XDG_CONFIG_HOME": str(here), "XDG_CACHE_HOME": str(here), **more}


def run(here: Path, *arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=here,
        env=environment(here, **more),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


class Serving:
    """A running ``serve``; what it logs is kept."""

    def __init__(self, here: Path, *arguments: str, **more: str) -> None:
        self.process = subprocess.Popen(
            [COMMAND, "serve", "--config", "config.toml", "--port", "0", "--inline", *arguments],
            cwd=here,
            env=environment(here, **more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self.url = ""
        while not self.url and (line := self.process.stdout.readline()):
            self.lines.append(line)
            if found := re.search(r"listening on (http://[^\s,\"]+/v1)", line):
                self.url = found[1]
        assert self.url, "".join(self.lines)
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout))
        self.reader.start()

    def post(self, path: str, body: dict, **headers: str) -> dict:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"content-type": "application/json", **headers}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE)
        self.reader.join()
        self.process.stdout.close()
        return status


@contextlib.contextmanager
def serving(here: Path, *arguments: str, **more: str):
    server = Serving(here, *arguments, **more)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def said(answer: dict) -> str:
    return answer["choices"][0]["message"]["content"]


HELLO = {"model": "echo", "messages": [{"role": "user", "content": "hello there"}]}


def test_help_names_the_commands_and_imports_nothing_heavy(here) -> None:
    program = (
        "import sys\nfrom openai_compat.cli import main\nsys.argv[1:] = ['--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'transformers', 'litestar', 'openai', 'uvicorn', 'rich', 'aiohttp'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True
    ).stdout
    assert all(f"\n  {name} " in shown for name in ("serve", "check", "pull", "models", "analyze", "chat", "key", "version"))
    assert shown.endswith("[]\n")


@pytest.mark.parametrize("spelling", ["version", "--version"])
def test_the_version_is_the_installed_one(here, spelling) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run(here, spelling).stdout)


def test_a_new_key_comes_with_lines_that_can_be_put_at_the_end_of_the_configuration(here) -> None:
    shown = run(here, "key", "hash", "--new").stdout
    key = re.search(r"sk-\S{40,}", shown)[0]
    config = here / "config.toml"
    config.write_text(ECHO + "\n".join(line for line in shown.splitlines() if not line.startswith("key,")))
    assert load(config, {}).auth.keys == (hash_key(key),)


def test_a_server_answers_and_stops_in_a_folder_with_packages_of_our_names(here) -> None:
    with serving(here) as server:
        assert said(server.post("/chat/completions", HELLO)) == "hello there"
        assert server.stop() == 0
    log = "".join(server.lines)
    assert f"try it: curl {server.url}/chat/completions" in log
    assert re.search(r"info    POST /v1/chat/completions 200 echo \d", log)
    assert "stopped" in log
    assert "Traceback" not in log


def test_the_curl_command_that_is_shown_works(here) -> None:
    with serving(here, OPENAI_COMPAT_API_KEY="sk-test") as server:
        while not (found := re.search(r"try it: (curl .*)", "".join(server.lines))):
            time.sleep(0.02)
        shell = subprocess.run(
            ["bash", "-c", found[1].replace("curl ", "curl --silent --show-error ", 1)],
            env={**os.environ, "OPENAI_API_KEY": "sk-test"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert said(json.loads(shell.stdout)) == "Hello!"


def test_json_logs_are_json_from_the_first_line_to_the_last(here) -> None:
    with serving(here, "--log-format", "json") as server:
        server.post("/chat/completions", HELLO)
        assert server.stop() == 0
    entries = [json.loads(line) for line in server.lines]
    [entry] = [entry for entry in entries if entry.get("path") == "/v1/chat/completions"]
    assert (entry["status"], entry["model"], entry["method"]) == (200, "echo", "POST")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("serve", "--config", "config.toml", "--host", "0.0.0.0"), 2, "server.host is 0.0.0.0"),
        (("serve", "--config", "config.toml", "--port", "70000"), 2, "--port: server.port: expected int <= 65535"),
        (("serve", "--config", "missing.toml"), 2, "missing.toml: there is no such file"),
        (("check", "--config", "wrong.toml"), 2, "wrong.toml, line 2: unknown setting 'server.prot'"),
        (("serve", "--config", "config.toml", "--host", "300.0.0.1"), 2, "server.host is 300.0.0.1"),
        (("pull", "--config", "config.toml", "ecko"), 1, "The model 'ecko' does not exist. Did you mean: echo?"),
        (("analyze", "--config", "config.toml", "ecko"), 1, "The model 'ecko' does not exist. Did you mean: echo?"),
        (("chat", "--config", "config.toml", "--url", "http://127.0.0.1:9/v1"), 1, "did not list its models"),
    ],
)
def test_what_a_person_can_mend_is_one_line_and_a_status(here, arguments, status, says) -> None:
    (here / "wrong.toml").write_text("[server]\nprot = 1\n")
    ended = run(here, *arguments)
    assert ended.returncode == status
    assert ended.stderr.startswith("error: ")
    assert says in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_busy_port_is_one_line(here) -> None:
    with serving(here) as server:
        port = server.url.split(":")[2].removesuffix("/v1")
        ended = run(here, "serve", "--config", "config.toml", PORT=port)
    assert ended.returncode == 1
    assert ended.stderr == f"error: Port {port} on 127.0.0.1 is in use. Choose another with --port or PORT.\n"


def test_check_is_content_with_what_can_be_served(here) -> None:
    ended = run(here, "check", "--config", "config.toml", "--json")
    assert ended.returncode == 0
    assert json.loads(ended.stdout) == [{"id": "echo", "source": "", "present": True, "problems": []}]


def test_check_finds_a_certificate_that_cannot_be_used(here) -> None:
    tls = f'[server]\ntls_cert = "{here}/none.pem"\ntls_key = "{here}/none.key"\n'
    (here / "config.toml").write_text(tls + ECHO)
    ended = run(here, "check", "--config", "config.toml")
    assert (ended.returncode, ended.stderr) == (
        1,
        f"error: There is no certificate at '{here}/none.pem', or no key at '{here}/none.key'.\n",
    )


def test_check_names_each_model_that_cannot_be_served(here) -> None:
    dangerous = here / "dangerous"
    dangerous.mkdir()
    (dangerous / "config.json").write_text('{"auto_map": {"AutoModel": "x.X"}}')
    (dangerous / "model.bin").write_bytes(b"\x80\x04pickle")
    models = f'[models.missing]\nsource = "{here}/nowhere"\n[models.dangerous]\nsource = "{dangerous}"\n'
    (here / "config.toml").write_text(ECHO + models)
    ended = run(here, "check", "--config", "config.toml")
    assert ended.returncode == 1
    assert re.search(r"^echo +good *$", ended.stdout, re.MULTILINE)
    assert re.search(r"^missing .*there is no such folder or file *$", ended.stdout, re.MULTILINE)
    assert re.search(r"^dangerous .*cannot be served", ended.stdout, re.MULTILINE)


def test_models_are_listed_with_their_aliases(here) -> None:
    (here / "config.toml").write_text(ECHO + '[aliases]\ngpt-4o-mini = "echo"\nloud = "echo:shout"\n')
    shown = run(here, "models", "--config", "config.toml").stdout
    assert re.search(r"^echo +gpt-4o-mini, loud +here .*generate text", shown, re.MULTILINE)
    [listed] = json.loads(run(here, "models", "--config", "config.toml", "--json").stdout)
    assert listed["id"] == "echo"
    assert "generate_text" in listed["capabilities"]


def test_a_terminal_without_the_letters_of_a_name_shows_their_numbers(here) -> None:
    (here / "config.toml").write_text(ECHO.replace("models.echo", 'models."modèle"'), "utf-8")
    ended = run(here, "models", "--config", "config.toml", PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stdout.splitlines()[1].split()[0]) == (0, r"mod\xe8le")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("command", ["key hash --new", "models", "check"])
def test_output_that_cannot_be_written_is_one_line(here, command) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [COMMAND, *command.split()],
            cwd=here,
            env=environment(here),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        )
    assert ended.returncode
    assert ended.stderr.startswith("error: no space left on device\n")
    assert "Traceback" not in ended.stderr


def test_analyze_tells_the_facts(here) -> None:
    shown = run(here, "analyze", "--config", "config.toml", "echo").stdout
    assert re.search(r"^architecture +echo *$", shown, re.MULTILINE)
    told = json.loads(run(here, "analyze", "--config", "config.toml", "echo", "--json").stdout)
    assert told["analysis"]["architecture"] == "echo"


def test_pull_says_what_is_ready_and_what_failed(here) -> None:
    (here / "config.toml").write_text(ECHO + f'[models.gone]\nsource = "{here}/nowhere"\n')
    ended = run(here, "pull", "--config", "config.toml")
    assert ended.returncode == 1
    assert "echo: ready\n" in ended.stderr
    assert "gone: failed: " in ended.stderr


def test_a_chat_is_streamed_reset_and_left(here) -> None:
    with serving(here) as server:
        lines = "what is this\n\n/help\n/reset\nsecond question\n/exit\nnever read\n"
        ended = run(here, "chat", "--config", "config.toml", "--url", server.url, stdin=lines)
    assert ended.returncode == 0, ended.stderr
    assert f"Talking to echo at {server.url}" in ended.stdout
    assert "> what is this\n" in ended.stdout
    assert "A new conversation.\n> second question\n" in ended.stdout
    assert "never read" not in ended.stdout


def test_a_failed_answer_does_not_end_the_chat(here) -> None:
    with serving(here) as server:
        lines = "[[fail_after=1]] one two three\nand again\n"
        ended = run(here, "chat", "--config", "config.toml", "--url", server.url, stdin=lines)
    assert ended.returncode == 0
    assert "error: " in ended.stdout
    assert "> and again\n" in ended.stdout


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What a shell starts in the background is told to ignore interrupts, and so is what that starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_stops_the_answer_and_not_the_chat(here) -> None:
    with serving(here) as server:
        chat = subprocess.Popen(
            [COMMAND, "chat", "--url", server.url],
            cwd=here,
            env=environment(here),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with chat:
            chat.stdin.write("[[delay=0.2]] [[tokens=1000]] tick\n")
            chat.stdin.flush()
            shown = ""
            while "tick" not in shown:
                shown += chat.stdout.read(1)
            chat.send_signal(signal.SIGINT)
            rest, errors = chat.communicate("still there\n/exit\n", timeout=PATIENCE)
    assert chat.returncode == 0, errors
    assert "(stopped)" in rest
    assert "> still there\n" in rest


def test_a_chat_without_a_server_starts_one_and_ends_it(here) -> None:
    (here / "config.toml").write_text("[server]\nport = 9\ninline = true\n" + ECHO)
    ended = run(here, "chat", "--config", "config.toml", stdin="all by myself\n")
    assert ended.returncode == 0, ended.stderr
    assert "Starting a server" in ended.stdout
    assert "> all by myself\n" in ended.stdout
    port = re.search(r"127.0.0.1:(\d+)/v1", ended.stdout)[1]
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=PATIENCE)
