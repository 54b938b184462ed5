"""What the project's own files say is so: the example configuration, the README, the constraints."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar import Router
from typer.main import get_command

from openai_compat import settings
from openai_compat.app import GATEWAY_ROUTES, MODEL_ROUTES
from openai_compat.cli.commands import app
from openai_compat.config import (
    AnswerCache,
    Auth,
    Breaker,
    Config,
    Engine,
    File,
    Jobs,
    Media,
    MemoryBudget,
    Metering,
    Model,
    Part,
    Price,
    Route,
    RouteTarget,
    Server,
    Storage,
    Upstream,
    UpstreamModel,
    Workers,
)

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "config.example.toml"
README = (ROOT / "README.md").read_text()
NOWHERE = {"HOME": "/nowhere"}
SHOWN = re.compile(r"^# (?=\[|\w+ = )", re.MULTILINE)


def test_the_example_is_exactly_the_defaults() -> None:
    assert settings.load(EXAMPLE, NOWHERE) == settings.load(None, NOWHERE)


def in_full() -> str:
    """The example with everything that it shows, what is not set included."""
    return SHOWN.sub("", EXAMPLE.read_text())


def keys(*tables: Any) -> set[str]:
    return {key for table in tables for key in table}


def test_the_example_holds_every_setting() -> None:
    values = tomllib.loads(in_full())
    models, upstreams, routes = (list(values[name].values()) for name in ("models", "upstreams", "routes"))
    files = [file for model in models for file in model.get("files", ())]
    offered = [model for upstream in upstreams for model in upstream.get("models", {}).values()]
    shown = {
        Config: set(values),
        Server: set(values["server"]),
        Auth: set(values["auth"]),
        Media: set(values["media"]),
        MemoryBudget: set(values["memory"]),
        Workers: set(values["workers"]),
        Storage: set(values["storage"]),
        Jobs: set(values["jobs"]),
        Metering: set(values["metering"]),
        AnswerCache: set(values["cache"]),
        Model: keys(*models),
        Engine: keys(*(model.get("engine", {}) for model in models)),
        Price: keys(*(model.get("price", {}) for model in models)),
        File: keys(*files),
        Part: keys(*(part for file in files for part in file.get("parts", ()))),
        Upstream: keys(*upstreams),
        UpstreamModel: keys(*offered),
        Breaker: keys(*(upstream.get("breaker", {}) for upstream in upstreams)),
        Route: keys(*routes),
        RouteTarget: keys(*(target for route in routes for target in route["targets"] if isinstance(target, dict))),
    }
    assert shown == {section: {field.name for field in msgspec.structs.fields(section)} for section in shown}


def test_the_settings_that_are_shown_but_not_set_are_good_ones(tmp_path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(in_full())
    config = settings.load(path, NOWHERE)
    model = config.models["smollm2-135m-instruct"]
    assert (model.context_length, model.threads, model.memory) == (2048, 2, "1GiB")
    upstream = config.upstreams["my-provider"]
    shown = {"api_key_env": "MY_PROVIDER_KEY", "max_in_flight": 100, "models": upstream.models}
    assert upstream == Upstream(base_url="https://api.example.com/v1", **shown)
    assert config.models["my-engine"].engine == Engine(context_length=8192, max_in_flight=64)


def test_every_setting_of_the_example_is_explained() -> None:
    lines = [line for line in EXAMPLE.read_text().splitlines() if re.match(r"(# )?\w+ = ", line)]
    assert [line for line in lines if "#" not in line[2:] and not line.startswith(("path", "sha256"))] == []


def documented(name: str) -> set[str]:
    return set(re.findall(rf"\b{name} ([a-z-]+)\b", re.sub(r"\.service", "", README)))


def test_the_readme_names_every_command_and_no_other() -> None:
    table = set(re.findall(r"^\| `openai-compat (\w+)`", README, re.MULTILINE))
    assert table == set(get_command(app).commands)
    assert documented("openai-compat") <= table


def test_the_readme_names_only_what_can_be_made() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`", README)) | set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))
    assert named
    assert named <= targets
    assert {"serve", "test", "test-slow", "check", "bench"} <= targets


def test_the_readmes_endpoints_are_the_servers() -> None:
    named = set(re.findall(r"`(?:GET|POST|DELETE) (/[^`{]*)", README))
    served = {route.path.partition("/{")[0] for route in Router("/", route_handlers=[*GATEWAY_ROUTES, *MODEL_ROUTES]).routes}
    assert {path for path in named if not any(path.startswith(prefix) for prefix in served)} == {"/schema"}
    assert {prefix for prefix in served if not any(path.startswith(prefix) for path in named)} == set()


@pytest.mark.parametrize(
    "page", sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md")))
)
def test_no_link_leads_nowhere(page) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", (ROOT / page).read_text())
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_the_readmes_configuration_is_good(tmp_path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(re.search(r"```toml\n(.*?)```", README, re.DOTALL)[1])
    assert settings.load(path, NOWHERE).aliases == {"gpt-4o-mini": "my-model"}


def test_every_dependency_is_pinned() -> None:
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in wanted}
    assert {canonical(name) for name in names} <= {canonical(name) for name in pinned}


def test_the_tested_versions_are_the_pinned_ones() -> None:
    installed = {canonical(found.metadata["Name"]): found.version for found in distributions()}
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    here = {name: version for name, version in pins.items() if canonical(name) in installed}
    assert {name for name, version in here.items() if installed[canonical(name)].partition("+")[0] != version} == set()


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
