"""What the command line asks: pull, check, describe; one bad model never hides the others."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from threading import Barrier

import pytest

from openai_compat.config import Config, Model, Server
from openai_compat.errors import ModelNotFound, ModelUnavailable
from openai_compat.gateway.inspect import check_models, describe_model, missing_models, pull_models
from openai_compat.gateway.sources import ModelStore


def config(tmp_path: Path) -> Config:
    good = tmp_path / "good"
    good.mkdir(exist_ok=True)
    (good / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    header = json.dumps({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}).encode()
    (good / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(12))
    (tmp_path / "bad").mkdir(exist_ok=True)
    (tmp_path / "bad" / "model.pt").touch()
    models = {
        "good": Model(source=str(good)),
        "bad": Model(source=str(tmp_path / "bad")),
        "gone": Model(source=str(tmp_path / "gone")),
        "far": Model(source="pypi:far==1"),
        "mistyped": Model(source="hf:"),
    }
    return Config(server=Server(cache_dir=str(tmp_path / "cache")), models=models, aliases={"gpt": "good"})


def test_each_model_is_checked_by_itself(tmp_path: Path) -> None:
    checked = {found.id: found for found in check_models(config(tmp_path), hashes=True)}
    assert {name: found.present for name, found in checked.items()} == {
        "good": True,
        "bad": True,
        "gone": False,
        "far": False,
        "mistyped": True,
    }
    assert checked["good"].problems == ()
    assert "model.pt" in checked["bad"].problems[0]
    assert "is not a source" in checked["mistyped"].problems[0]


def test_what_a_pull_would_fetch_is_told(tmp_path: Path) -> None:
    assert missing_models(config(tmp_path)) == ("gone", "far")


def test_pulling_goes_on_past_a_model_that_fails(tmp_path: Path) -> None:
    pulled = pull_models(config(tmp_path), ("gone", "gpt", "good"))
    assert [(found.id, found.path, bool(found.error)) for found in pulled] == [
        ("gone", "", True),
        ("good", str(tmp_path / "good"), False),
    ]
    with pytest.raises(ModelNotFound):
        pull_models(config(tmp_path), ("nobody",))


def test_models_are_pulled_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = Barrier(2)
    monkeypatch.setattr(ModelStore, "pull", lambda *_, model_id: f"{model_id} {both.wait(30) < 2}")
    assert [found.path for found in pull_models(config(tmp_path), ("far", "good"))] == ["far True", "good True"]


def test_what_nobody_foresaw_is_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, model_id: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(ModelStore, "pull", broken)
    with pytest.raises(ZeroDivisionError):
        pull_models(config(tmp_path), ("good",))


def test_a_model_is_described_by_any_of_its_names(tmp_path: Path) -> None:
    found = describe_model(config(tmp_path), "gpt:creative")
    assert (found.id, found.analysis.parameters, found.spec.kind, found.manifest) == ("good", 3, "transformer", None)
    with pytest.raises(ModelUnavailable):
        describe_model(config(tmp_path), "bad")


def test_a_file_that_changed_after_it_was_placed_is_found_by_its_hash(tmp_path: Path) -> None:
    from openai_compat.gateway.sources.cache import snapshot_of

    settings = Config(server=Server(cache_dir=str(tmp_path)), models={"m": Model(source="hf:org/m@main", kind="echo")})
    snapshot = snapshot_of(tmp_path, settings.models["m"])
    with snapshot.stage() as stage:
        (stage / "model").mkdir()
        (stage / "model" / "config.json").write_text('{"a": 1}')
        snapshot.place(stage, "hf:org/m@main", "c" * 40)
    (snapshot.model / "config.json").write_text('{"a": 2}')
    assert check_models(settings)[0].problems == ()
    assert check_models(settings, hashes=True)[0].problems == ("config.json: has changed since it was placed",)


def test_listing_and_describing_import_nothing_heavy(tmp_path: Path) -> None:
    settings = config(tmp_path)
    program = (
        "import sys; from openai_compat.config import *; from openai_compat.gateway.catalog import Catalog\n"
        f"config = Config(models={{'m': Model(source={settings.models['good'].source!r})}})\n"
        "print(Catalog(config).models()[0].available)\n"
        "print({'torch', 'transformers', 'numpy', 'huggingface_hub', 'httpx2', 'rich'} & sys.modules.keys())"
    )
    ended = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["True", "set()"]
