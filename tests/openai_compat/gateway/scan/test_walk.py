"""The scan of a model's folder: formats, code, links, and a name for whatever is refused."""

from __future__ import annotations

import json
import os
import pickle
import struct
import time
import zipfile
from pathlib import Path

import pytest

from openai_compat.gateway.scan import scan


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A clean snapshot."""
    root = tmp_path / "model"
    root.mkdir()
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (root / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    (root / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (root / "tokenizer.json").write_text('{"model": {"vocab": {"auto_map": 1}}}')
    for name in ("README.md", "LICENSE", ".gitattributes", "merges.txt", "chat_template.jinja", "tokenizer.model"):
        (root / name).write_text("text")
    return root


def test_a_clean_folder_has_no_problems(model: Path) -> None:
    assert scan(model) == ()


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "x.pt", "x.ckpt", "x.pth", "x.pkl", "x.pt2", "x.nemo", "x.h5", "x.msgpack", "x.npz", "x.BIN"]
)
def test_formats_that_can_run_code_are_refused(model: Path, name: str) -> None:
    (model / name).write_bytes(b"\0")
    assert len(scan(model)) == 1
    assert scan(model)[0].startswith(f"{name}: ")


@pytest.mark.parametrize(
    "name", ["modeling.py", "sub/dir/a.py", "a.so", "a.pyc", "conftest.PY", "run.sh", "unknown.xyz", "binary"]
)
def test_code_and_unknown_formats_are_refused(model: Path, name: str) -> None:
    (model / name).parent.mkdir(parents=True, exist_ok=True)
    (model / name).write_bytes(b"\0")
    assert [problem.partition(": ")[0] for problem in scan(model)] == [name]


@pytest.mark.parametrize("name", ["adapter_config.json", "text_encoder/adapter_config.json"])
def test_an_adapter_that_names_a_model_elsewhere_is_refused(model: Path, name: str) -> None:
    (model / name).parent.mkdir(parents=True, exist_ok=True)
    (model / name).write_text('{"peft_type": "LORA", "base_model_name_or_path": "/srv/other"}')
    assert [problem.partition(": ")[0] for problem in scan(model)] == [name]


def test_a_pickle_under_another_name_is_refused(model: Path) -> None:
    (model / "model.bin").write_bytes(pickle.dumps({"w": [1.0]}))
    (model / "vocab.txt").write_bytes(pickle.dumps({"w": [1.0]}))
    (model / "spiece.model").write_bytes(pickle.dumps({"w": [1.0]}, protocol=2))
    with zipfile.ZipFile(model / "weights.txt", "w") as archive:
        archive.writestr("a", "b")
    assert [problem.partition(": ")[0] for problem in scan(model)] == ["model.bin", "spiece.model", "vocab.txt", "weights.txt"]


@pytest.mark.parametrize("key", ["auto_map", "custom_pipeline", "trust_remote_code", "_attn_implementation_internal"])
def test_keys_that_bring_code_along_are_refused_in_any_json(model: Path, key: str) -> None:
    (model / "sub").mkdir()
    (model / "sub" / "config.json").write_text(json.dumps({"a": [{"b": {key: {"AutoModel": "x.Y"}}}]}))
    problems = scan(model)
    assert len(problems) == 1
    assert problems[0].startswith("sub/config.json: ")
    assert key in problems[0]


def test_links_within_the_folder_are_fine_and_others_are_not(model: Path, tmp_path: Path) -> None:
    (model / "extra.json").symlink_to("config.json")
    assert scan(model) == ()
    (tmp_path / "outside.json").write_text("{}")
    (model / "generation_config.json").symlink_to("../outside.json")
    (model / "folder").symlink_to(tmp_path)
    (model / "broken.json").symlink_to("nowhere.json")
    (model / "harmless.txt").symlink_to("config.json")
    names = [problem.partition(": ")[0] for problem in scan(model)]
    assert names == ["broken.json", "folder", "generation_config.json", "harmless.txt"]


def test_a_pipe_is_refused_and_not_opened(model: Path) -> None:
    os.mkfifo(model / "config2.json")
    assert scan(model) == ("config2.json: not a plain file, or a folder nested too deep",)


def test_a_lying_header_is_refused_within_a_second(model: Path) -> None:
    (model / "model.safetensors").write_bytes(struct.pack("<Q", 2**40) + b"{}")
    (model / "m.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 2**60, 1))
    started = time.perf_counter()
    names = [problem.partition(": ")[0] for problem in scan(model)]
    assert time.perf_counter() - started < 1
    assert names == ["m.gguf", "model.safetensors"]


def test_folders_without_end_are_refused(model: Path) -> None:
    (model / "/".join("abcdefghijk")).mkdir(parents=True)
    assert "nested too deep" in scan(model)[0]


def test_metadata_of_git_and_of_the_hub_client_is_not_looked_at(model: Path) -> None:
    (model / ".git" / "hooks").mkdir(parents=True)
    (model / ".git" / "hooks" / "pre-commit.sh").write_text("x")
    assert scan(model) == ()


def test_a_folder_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    assert scan(tmp_path / "gone") == ("gone: does not exist",)


def test_more_problems_than_anyone_reads_end_the_walk(model: Path) -> None:
    for number in range(100):
        (model / f"{number}.py").touch()
    assert len(scan(model)) == 20
