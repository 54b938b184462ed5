"""What the project's own files say is so: the example configuration, the README, the constraints."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import msgspec
import pytest
from litestar import Router
from typer.main import get_command

from openai_compat import settings
from openai_compat.app import GATEWAY_ROUTES, MODEL_ROUTES
from openai_compat.cli.commands import app
from openai_compat.config import Auth, Config, File, MemoryBudget, Model, Part, Server, Workers

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "config.example.toml"
README = (ROOT / "README.md").read_text()
NOWHERE = {"HOME": "/nowhere"}
OPTIONAL = re.compile(r"^# (\w+ = .*?)(\s+#.*)?$", re.MULTILINE)


def test_the_example_is_exactly_the_defaults() -> None:
    assert settings.load(EXAMPLE, NOWHERE) == settings.load(None, NOWHERE)


def test_the_example_holds_every_setting() -> None:
    text = EXAMPLE.read_text()
    values = tomllib.loads(text)
    model = values["models"]["smollm2-135m-instruct"]
    files = [file for model in values["models"].values() for file in model.get("files", ())]
    unset = {line.partition(" ")[0] for line in OPTIONAL.findall(text) for line in line[:1]}
    shown = {
        Config: set(values),
        Server: set(values["server"]),
        Auth: set(values["auth"]),
        MemoryBudget: set(values["memory"]),
        Workers: set(values["workers"]),
        Model: set(model) | unset,
        File: set().union(*files),
        Part: set().union(*(part for file in files for part in file.get("parts", ()))),
    }
    assert shown == {section: {field.name for field in msgspec.structs.fields(section)} for section in shown}


def test_the_settings_that_are_shown_but_not_set_are_good_ones(tmp_path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(OPTIONAL.sub(r"\1", EXAMPLE.read_text()))
    model = settings.load(path, NOWHERE).models["smollm2-135m-instruct"]
    assert model.context_length == 2048
    assert model.threads == 2
    assert model.memory == "1GiB"


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
