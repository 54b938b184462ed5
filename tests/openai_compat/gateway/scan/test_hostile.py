"""Snapshots made to deceive the scan: keys that stand twice, other encodings, shards elsewhere, swapped files, great cost."""

from __future__ import annotations

import json
import os
import pickle
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.headers import BadHeader
from openai_compat.config import Config, Model, Server
from openai_compat.errors import ModelUnavailable
from openai_compat.gateway.catalog import Catalog
from openai_compat.gateway.scan import scan
from openai_compat.gateway.scan.json_keys import MAX_BYTES, PARSED_BYTES, check_json

CODE = {"AutoModel": "evil.Model"}


def refused(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadHeader) as caught:
        check_json(path)
    return caught.value.reason


@pytest.mark.parametrize("padding", [0, PARSED_BYTES])
@pytest.mark.parametrize(
    "content",
    [
        '{"auto_map": %s, "auto_map": null, "x": "%s"}',
        '{"text_config": {"auto_map": %s}, "text_config": {}, "x": "%s"}',
        '{"a": [{"b": {"custom_pipeline": %s}, "b": 1}], "x": "%s"}',
        '{"_attn_implementation": "sdpa", "_attn_implementation": "some/kernel", "auto_mapping": %s, "x": "%s"}',
    ],
)
def test_a_key_that_stands_twice_hides_nothing(tmp_path: Path, content: str, padding: int) -> None:
    assert "code" in refused(tmp_path / "config.json", content % (json.dumps(CODE), "x" * padding))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "utf-7"])
@pytest.mark.parametrize("padding", [0, PARSED_BYTES])
def test_only_utf_8_without_a_mark_is_read(tmp_path: Path, encoding: str, padding: int) -> None:
    text = json.dumps({"auto_map": CODE, "x": "x" * padding})
    assert refused(tmp_path / "config.json", text.encode(encoding))


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer_config.json", "generation_config.json", "preprocessor_config.json", "model_index.json",
             "processor_config.json", "adapter_config.json", "a/b/c/config.json", "CONFIG.JSON", "anything.json"]
)  # fmt: skip
def test_code_is_looked_for_in_every_json(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(json.dumps([[[{"quantization_config": {"auto_map": CODE}}]]]))
    assert [problem.partition(": ")[0] for problem in scan(tmp_path)] == [name]


@pytest.mark.parametrize(
    "value", ["../model.safetensors", "/etc/x.safetensors", "pytorch_model.bin", "a\\b.safetensors", "x/.safetensors"]
)
def test_weights_are_named_beside_the_file_that_names_them(tmp_path: Path, value: str) -> None:
    refused(tmp_path / "config.json", json.dumps({"transformers_weights": value}))
    refused(tmp_path / "model.safetensors.index.json", json.dumps({"weight_map": {"a": "ok.safetensors", "b": value}}))
    twice = json.dumps({"weight_map": {"a": "ok.safetensors", "c": value}}).replace('"c"', '"a"')
    refused(tmp_path / "diffusion_pytorch_model.safetensors.index.fp16.json", twice)
    check_json(_written(tmp_path / "pytorch_model.bin.index.json", {"weight_map": {"a": "pytorch_model-1-of-2.bin"}}))
    check_json(_written(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": "model-1-of-2.safetensors"}}))


def _written(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("name", ["spiece.model", "vocab.txt", "notes.md", "tiktoken.tiktoken", "x.png", "LICENSE"])
def test_a_pickle_of_any_age_is_known_by_its_first_bytes(tmp_path: Path, name: str, protocol: int) -> None:
    (tmp_path / name).write_bytes(pickle.dumps({"a": [1]}, protocol=protocol))
    assert "a pickle under another name" in scan(tmp_path)[0]


def test_arrays_of_objects_are_refused_under_any_name(tmp_path: Path) -> None:
    np.save(tmp_path / "voice.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "voice.txt").write_bytes((tmp_path / "voice.npy").read_bytes())
    assert [problem.partition(": ")[0] for problem in scan(tmp_path)] == ["voice.npy", "voice.txt"]


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf", "model.bin", "model.onnx", "config.json"])
@pytest.mark.parametrize(
    "content", [b"PK\x03\x04" + bytes(100), pickle.dumps({"a": 1}), b"\x7fELF" + bytes(60), b"", b"\0" * 64]
)
def test_a_foreign_file_in_the_place_of_a_known_one_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert len(scan(tmp_path)) == 1


# ---------------------------------------------------------------- files that change


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    root = tmp_path / "model"
    root.mkdir()
    (root / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "x": "%s"}' % ("y" * 100))
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (root / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    config = Config(server=Server(cache_dir=str(tmp_path / "cache")), models={"m": Model(source=str(root))})
    return Catalog(config)


def in_place(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def renamed(path: Path, content: bytes) -> None:
    (path.parent / "new.json").write_bytes(content)
    (path.parent / "new.json").rename(path)


@pytest.mark.parametrize("swap", [in_place, renamed])
def test_a_file_that_is_swapped_after_the_scan_is_scanned_again_although_size_and_times_are_put_back(
    catalog: Catalog, swap: Callable[[Path, bytes], None]
) -> None:
    path = Path(catalog.spec("m").path) / "config.json"
    before = path.stat()
    evil = json.dumps({"auto_map": CODE, "x": ""})
    swap(path, (evil[:-2] + "y" * (before.st_size - len(evil)) + '"}').encode())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(ModelUnavailable, match="auto_map"):
        catalog.spec("m")


def test_a_file_that_becomes_a_link_out_of_the_folder_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    path = Path(catalog.spec("m").path) / "config.json"
    path.rename(tmp_path / "outside.json")
    path.symlink_to(tmp_path / "outside.json")
    with pytest.raises(ModelUnavailable, match="symbolic link"):
        catalog.spec("m")


# ---------------------------------------------------------------- files that cost


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"[" * 2**21 + b"]" * 2**21),
        ("b.json", b"[" + b"[[[]]]," * 500_000 + b"1]"),
        ("c.json", b"x" * (MAX_BYTES + 1)),
        ("d.json", b'{"auto_map":1,"a":"' + b"y" * 2**23 + b'"}'),
        ("e.json", b'["' + b'x_internal","' * 2**20 + b'"]x'),
        ("f.onnx", b"\x3a\x00" * 2_000_000),
        ("g.onnx", b"\x3a\x80\x80\x80\x08" + b"\x08\x00" * 2**23),
        ("h.safetensors", b"{" * 2**24),
        ("i.safetensors", struct.pack("<Q", 2**24) + b'{"a":' + b"[" * 2**24),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_costs_time_is_refused_before_it_has_cost_much(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    began = time.process_time()
    assert [problem.partition(": ")[0] for problem in scan(tmp_path)] == [name]
    assert time.process_time() - began < 3  # on a machine that is busy; a second where it is not


SETTINGS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=20,
)


@given(SETTINGS, st.sampled_from(["auto_map", "custom_pipeline", "trust_remote_code", "_x_internal"]), st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_key_that_brings_code_is_found_wherever_it_is_put(
    tmp_path: Path, tree: object, key: str, data: st.DataObject
) -> None:
    while isinstance(tree, list | dict) and tree and data.draw(st.booleans()):
        tree = tree[0] if isinstance(tree, list) else next(iter(tree.values()))
    whole = data.draw(st.sampled_from([[1, {"a": {key: tree}}], {key: tree}, [[[{key: tree}]]]]))
    assert key in refused(tmp_path / "config.json", json.dumps(whole))
