"""The coding agents themselves, where they are installed: each runs what a scripted model calls for, and shows its last words.

They get an empty home, no other key than `none`, and a folder of the test's own to work in.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

COMMAND = "echo hello > made.txt"
TASK = "Write hello into made.txt"
LAST_WORDS = "It is written."
PATIENCE = 120.0


class Agent(Struct, frozen=True, kw_only=True):
    """``tool`` is its name for a shell, ``prepare`` writes its settings into a home and gives its command and environment."""

    tool: str
    arguments: dict[str, Any]
    prepare: Callable[[str, Path], tuple[list[str], dict[str, str]]]


def codex(origin: str, home: Path) -> tuple[list[str], dict[str, str]]:
    provider = f'{{name="here", base_url="{origin}/v1", wire_api="responses", env_key="KEY"}}'
    settings = [f"model_providers.here={provider}", 'model_provider="here"', "check_for_update_on_startup=false"]
    given = [part for setting in settings for part in ("-c", setting)]
    (home / ".codex").mkdir()
    return ["codex", "exec", "--skip-git-repo-check", "-s", "danger-full-access", "-m", "codex", *given], {"KEY": "none"}


def claude(origin: str, home: Path) -> tuple[list[str], dict[str, str]]:
    env = {"ANTHROPIC_BASE_URL": origin, "ANTHROPIC_API_KEY": "none", "ANTHROPIC_MODEL": "claude"}
    quiet = dict.fromkeys(("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_AUTOUPDATER", "DISABLE_TELEMETRY"), "1")
    return ["claude", "--allowedTools", "Bash", "-p"], env | quiet


def opencode(origin: str, home: Path) -> tuple[list[str], dict[str, str]]:
    options = {"baseURL": f"{origin}/v1", "apiKey": "none"}
    here = {"npm": "@ai-sdk/openai-compatible", "name": "here", "options": options, "models": {"opencode": {"tool_call": True}}}
    settings = {"autoupdate": False, "share": "disabled", "permission": "allow", "provider": {"here": here}}
    (home / ".config" / "opencode").mkdir(parents=True)
    (home / ".config" / "opencode" / "opencode.json").write_text(json.dumps(settings))
    return ["opencode", "run", "-m", "here/opencode"], {"OPENCODE_DISABLE_MODELS_FETCH": "1"}


def pi(api: str, path: str) -> Callable[[str, Path], tuple[list[str], dict[str, str]]]:
    def prepare(origin: str, home: Path) -> tuple[list[str], dict[str, str]]:
        here = {"baseUrl": origin + path, "api": api, "apiKey": "none", "models": [{"id": "pi"}]}
        (home / ".pi" / "agent").mkdir(parents=True)
        (home / ".pi" / "agent" / "models.json").write_text(json.dumps({"providers": {"here": here}}))
        return ["pi", "--provider", "here", "--model", "pi", "-p"], {"PI_OFFLINE": "1", "PI_SKIP_VERSION_CHECK": "1"}

    return prepare


def cn(origin: str, home: Path) -> tuple[list[str], dict[str, str]]:
    model = {"name": "cn", "provider": "openai", "model": "cn", "apiBase": f"{origin}/v1", "apiKey": "none"}
    models = [{**model, "roles": ["chat"], "capabilities": ["tool_use"]}]
    settings = home / "config.yaml"  # JSON is YAML
    settings.write_text(json.dumps({"name": "here", "version": "0.0.1", "schema": "v1", "models": models}))
    return ["cn", "--config", str(settings), "--allow", "Bash", "-p"], {"CONTINUE_TELEMETRY_ENABLED": "0"}


AGENTS = {
    "codex": Agent(tool="exec_command", arguments={"cmd": COMMAND}, prepare=codex),
    "claude": Agent(tool="Bash", arguments={"command": COMMAND, "description": "Write a file"}, prepare=claude),
    "opencode": Agent(tool="bash", arguments={"command": COMMAND, "description": "Write a file"}, prepare=opencode),
    "pi": Agent(tool="bash", arguments={"command": COMMAND}, prepare=pi("openai-completions", "/v1")),
    "pi by responses": Agent(tool="bash", arguments={"command": COMMAND}, prepare=pi("openai-responses", "/v1")),
    "pi by messages": Agent(tool="bash", arguments={"command": COMMAND}, prepare=pi("anthropic-messages", "")),
    "cn": Agent(tool="Bash", arguments={"command": COMMAND}, prepare=cn),
}


def environment(home: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", **more}


@pytest.fixture(scope="module")
def scripted(serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("agents")
    config = folder / "config.toml"
    for name, agent in AGENTS.items():
        call = json.dumps({"name": agent.tool, "arguments": agent.arguments})
        options = f"answer = '<tool_call>{call}</tool_call>'\nthen = \"{LAST_WORDS}\"\n"
        with config.open("a") as file:
            file.write(f'[models."{name}"]\nsource = ""\nkind = "echo"\n[models."{name}".options]\n{options}')
    running = serve(config, folder, "--inline")
    yield running
    assert running.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_runs_what_the_model_calls_for_and_shows_its_answer(scripted: Any, tmp_path: Path, name: str) -> None:
    if shutil.which(name.partition(" ")[0]) is None:
        pytest.skip(f"{name} is not installed")
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    command, env = AGENTS[name].prepare(scripted.origin, home)
    done = subprocess.run(
        [*command, TASK],
        cwd=work,
        env=environment(home, **env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
        text=True,
        check=False,
    )
    assert (work / "made.txt").is_file(), done.stdout
    assert (work / "made.txt").read_text() == "hello\n"
    assert LAST_WORDS in done.stdout
