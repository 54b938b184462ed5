"""What a catalog and the command line tell of an engine that does not run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from openai_compat.config import Config, Engine, Model, Server
from openai_compat.errors import ModelUnavailable
from openai_compat.gateway.catalog import Catalog
from openai_compat.gateway.inspect import check_models, describe_model, missing_models, pull_models
from openai_compat.gateway.needs import read_needs
from openai_compat.gateway.slot import Slot


def config(tmp_path: Path, command: tuple[str, ...], **settings) -> Config:
    models = {"e": Model(command=command, **settings)}
    return Config(server=Server(cache_dir=str(tmp_path / "cache")), models=models)


def test_it_can_do_what_its_settings_say(tmp_path: Path) -> None:
    engine = Engine(capabilities=("embed_text", "generate_text"), context_length=4096)
    entry = Catalog(config(tmp_path, (sys.executable, "{port}"), engine=engine)).entry("e")
    assert (entry.available, entry.capabilities, entry.modes) == (True, ("generate_text", "embed_text"), ())
    assert (entry.context_length, entry.owned_by) == (4096, "local")


def test_without_its_program_it_is_not_available_until_that_is_there(tmp_path: Path) -> None:
    made = config(tmp_path, ("server-of-mine", "{port}"), environment={"PATH": str(tmp_path)})
    catalog = Catalog(made)
    assert not catalog.entry("e").available
    with pytest.raises(ModelUnavailable, match="The program of the model 'e' is not on this machine"):
        catalog.spec("e")
    program = tmp_path / "server-of-mine"
    program.touch()
    program.chmod(0o755)
    assert catalog.entry("e").available


def test_it_is_taken_to_need_what_the_files_in_its_command_weigh(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name, size in (("a.gguf", 1000), ("folder/b.safetensors", 200), ("folder/c.safetensors", 30), ("folder/notes.txt", 4)):
        (tmp_path / name).write_bytes(bytes(size))
    command = (sys.executable, "-m", str(tmp_path / "a.gguf"), f"--draft={tmp_path / 'folder'}", str(tmp_path / "absent.gguf"))
    made = config(tmp_path, command)
    _, estimate, floor = read_needs(Catalog(made), Slot("e", made.models["e"]))
    assert (estimate, floor) == (1230, 1230)
    said = config(tmp_path, command, memory="1MiB").models["e"]
    assert read_needs(Catalog(made), Slot("e", said))[1:] == (2**20, 2**20)


def test_the_command_line_checks_its_program_and_pulls_nothing(tmp_path: Path) -> None:
    good, absent = config(tmp_path, (sys.executable, "{port}")), config(tmp_path, ("no-such-program-anywhere",))
    assert [(found.source, found.present, found.problems) for found in check_models(good, hashes=True)] == [
        (sys.executable, True, ())
    ]
    assert check_models(absent)[0].problems == ("The program of the model 'e' is not on this machine.",)
    assert missing_models(good) == ()
    assert [(found.path, found.error) for found in pull_models(good)] == [(sys.executable, "")]
    assert describe_model(good, "e").spec.kind == "command"
