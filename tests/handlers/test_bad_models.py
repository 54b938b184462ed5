"""Bad models: a file that is cut, flipped or swapped, a configuration that lies. Each is refused at once, with a reason.

Most are refused by a look at their files, which costs no process; the others by the load itself, as one error.
"""

from __future__ import annotations

import json
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers import types as t
from handlers.transformer import TransformerHandler
from openai_compat.config import Config, Model, Server
from openai_compat.errors import APIError, ModelUnavailable
from openai_compat.gateway.catalog import Catalog

NAN, INFINITY = float("nan"), float("inf")
WEIGHTS = "model.safetensors"
Harm = Callable[[Path], object]


@pytest.fixture
def model(tiny_llama: Path, tmp_path: Path) -> Path:
    """A good model, to be harmed."""
    return Path(shutil.copytree(tiny_llama, tmp_path / "m"))


def catalog(root: Path) -> Catalog:
    return Catalog(Config(server=Server(cache_dir=str(root.parent / "cache")), models={"m": Model(source=str(root))}))


def config(**changes: Any) -> Harm:
    return lambda root: rewrite(root / "config.json", changes)


def rewrite(path: Path, changes: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def header(change: Callable[[dict[str, Any]], object]) -> Harm:
    """Weights of a good length with another header."""

    def harm(root: Path) -> None:
        raw = (root / WEIGHTS).read_bytes()
        length = struct.unpack("<Q", raw[:8])[0]
        tensors = json.loads(raw[8 : 8 + length])
        change(tensors)
        text = json.dumps(tensors).encode()
        (root / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])

    return harm


def tensor(**changes: Any) -> Harm:
    return header(lambda tensors: tensors["model.norm.weight"].update(changes))


def content(name: str, change: Callable[[bytes], bytes]) -> Harm:
    return lambda root: (root / name).write_bytes(change((root / name).read_bytes()))


def twice(raw: bytes) -> bytes:
    """Of two tensors that stand one behind the other the names are made one."""
    return raw.replace(b"layers.1.mlp.up_proj", b"layers.0.mlp.up_proj")


FILES: dict[str, Harm] = {
    "weights cut within the header": content(WEIGHTS, lambda raw: raw[:100]),
    "weights cut within the last tensor": content(WEIGHTS, lambda raw: raw[:-1]),
    "weights of seven bytes": content(WEIGHTS, lambda raw: raw[:7]),
    "empty weights": content(WEIGHTS, lambda raw: b""),
    "bytes behind the weights": content(WEIGHTS, lambda raw: raw + b"\0"),
    "a header of 2^63 bytes": content(WEIGHTS, lambda raw: struct.pack("<Q", 2**63) + raw[8:]),
    "a header of 100 MB and one": content(WEIGHTS, lambda raw: struct.pack("<Q", 100_000_001) + raw[8:]),
    "a zip in the weights' place": content(WEIGHTS, lambda raw: b"PK\x03\x04" + raw),
    "a pickle in the weights' place": content(WEIGHTS, lambda raw: b"\x80\x04\x95" + raw),
    "a GGUF in the weights' place": content(WEIGHTS, lambda raw: b"GGUF" + raw),
    "a negative offset": tensor(data_offsets=[-4, 124]),
    "an offset of 2^70": tensor(data_offsets=[0, 2**70]),
    "offsets the wrong way round": tensor(data_offsets=[128, 0]),
    "an unknown dtype": tensor(dtype="PICKLE"),
    "a dtype that lies": tensor(dtype="F64"),
    "a shape that lies": tensor(shape=[33]),
    "a negative dimension": tensor(shape=[-32]),
    "dimensions whose product is zero in 64 bits": tensor(shape=[2**32, 2**32]),
    "a hundred dimensions": tensor(shape=[1] * 100),
    "a dimension that is a text": tensor(shape=["32"]),
    "a tensor with a further key": tensor(code="import os"),
    "a hole between tensors": header(lambda tensors: tensors.pop("model.norm.weight")),
    "a tensor over another": header(lambda tensors: tensors.update(copy=tensors["model.norm.weight"])),
    "a name twice": content(WEIGHTS, twice),
    "metadata that is no text": header(lambda tensors: tensors.update(__metadata__={"format": ["pt"]})),
    "no configuration": lambda root: (root / "config.json").unlink(),
    "a configuration that is a list": lambda root: (root / "config.json").write_text("[]"),
    "a configuration cut in two": content("config.json", lambda raw: raw[:50]),
    "a tokenizer cut in two": content("tokenizer.json", lambda raw: raw[: len(raw) // 2]),
    "no tokenizer": lambda root: (root / "tokenizer.json").unlink(),
    "no weights": lambda root: (root / WEIGHTS).unlink(),
    "code beside it": lambda root: (root / "modeling_evil.py").write_text("import os"),
    "a shard elsewhere": lambda root: (root / f"{WEIGHTS}.index.json").write_text('{"weight_map": {"a": "../x.safetensors"}}'),
    "a shard that is missing": lambda root: (root / f"{WEIGHTS}.index.json").write_text(
        '{"weight_map": {"a": "b.safetensors"}}'
    ),
}
LIES: dict[str, dict[str, Any]] = {
    "no layers": {"num_hidden_layers": 0},
    "minus one layer": {"num_hidden_layers": -1},
    "10^18 layers": {"num_hidden_layers": 10**18},
    "10^400 layers": {"num_hidden_layers": 10**400},
    "10^4 layers without weights": {"num_hidden_layers": 10**4},
    "a width of 2^40": {"hidden_size": 2**40},
    "a width of 2^20 without weights": {"hidden_size": 2**20},
    "a negative width": {"hidden_size": -32},
    "2^40 words": {"vocab_size": 2**40},
    "minus one word": {"vocab_size": -1},
    "an inner width of 2^40": {"intermediate_size": 2**40},
    "heads of 2^30": {"head_dim": 2**30},
    "2^30 heads": {"num_attention_heads": 2**30},
    "minus four heads": {"num_attention_heads": -4},
    "a context of 2^60": {"max_position_embeddings": 2**60},
    "a base that is no number": {"rope_theta": NAN},
    "a base that is no number, within": {"rope_parameters": {"rope_type": "default", "rope_theta": NAN}},
    "an endless factor": {"rope_parameters": {"rope_type": "yarn", "factor": INFINITY, "rope_theta": 1e4}},
    "an epsilon that is no number": {"rms_norm_eps": NAN},
    "10^6 layers in a part": {"text_config": {"model_type": "llama", "num_hidden_layers": 10**6}},
    "10^9 labels": {"num_labels": 10**9},
    "an architecture nobody knows": {"architectures": ["EvilForRemoteCode"]},
    "architectures that are a number": {"architectures": 5},
    "a type that is a list": {"model_type": ["llama"]},
    "code in its quantization": {"quantization_config": {"quant_method": "x", "auto_map": {"A": "x.Y"}}},
    "a kernel as attention": {"_attn_implementation": "evil/kernel"},
}
LOADED: dict[str, dict[str, Any]] = {
    "another width": {"hidden_size": 64},
    "a width that is a text": {"hidden_size": "32"},
    "a third layer": {"num_hidden_layers": 3},
    "no heads": {"num_attention_heads": 0},
    "three heads": {"num_attention_heads": 3},
    "no heads for keys": {"num_key_value_heads": 0},
    "fewer words than rows": {"vocab_size": 10},
    "more words than rows": {"vocab_size": 401},
    "no inner width": {"intermediate_size": 0},
    "heads of nothing": {"head_dim": 0},
    "a base that is a text": {"rope_parameters": {"rope_type": "default", "rope_theta": "x"}},
    "a rope nobody knows": {"rope_parameters": {"rope_type": "evil", "rope_theta": 1e4}},
    "an activation nobody knows": {"hidden_act": "os.system"},
    "a type nobody knows": {"model_type": "../evil"},
    "the type of another architecture": {"model_type": "bert"},
    "a dtype that is a function": {"dtype": "load"},
    "ends that are texts": {"eos_token_id": [2, "x"]},
    "padding far away": {"pad_token_id": 10**9},
    "quantization that is a text": {"quantization_config": "x"},
    "quantization that is not installed": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    "layers of no type": {"layer_types": ["evil", "evil"]},
    "labels that are no numbers": {"id2label": {"x": "y"}},
    "answers that are no objects": {"return_dict": False},
    "a negative epsilon": {"rms_norm_eps": -1},
}


def refusal(root: Path) -> str:
    """By a look at the files alone, within a second of work; the list of models is there all the same."""
    known = catalog(root)
    began = time.process_time()
    with pytest.raises(ModelUnavailable) as caught:
        known.analysis("m")
    assert time.process_time() - began < 1
    assert [entry.available for entry in known.models()] == [False]
    assert str(root) not in caught.value.message
    return caught.value.message


def test_the_model_that_is_harmed_is_good(model: Path) -> None:
    assert catalog(model).analysis("m").parameters > 0


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_refused_by_its_name(model: Path, name: str) -> None:
    FILES[name](model)
    assert any(word in refusal(model) for word in (".safetensors", "config.json", "tokenizer.json", "modeling_evil.py"))


@pytest.mark.parametrize("name", LIES)
def test_a_configuration_that_lies_is_refused_before_a_process_believes_it(model: Path, name: str) -> None:
    config(**LIES[name])(model)
    assert len(refusal(model)) < 400


@pytest.mark.parametrize("name", LOADED)
def test_what_only_the_library_can_tell_is_one_error_of_the_load(model: Path, name: str) -> None:
    config(**LOADED[name])(model)
    with pytest.raises(ModelUnavailable, match="'m'") as caught:
        load(model)
    assert str(model) not in caught.value.message


def load(root: Path) -> TransformerHandler:
    handler = TransformerHandler(t.ModelSpec(id="m", path=str(root), kind="transformer", device="cpu", threads=1))
    handler.load_model(lambda stage, done=0, total=0: None)
    return handler


NUMBERS = (
    st.integers(-(10**20), 10**20)
    | st.sampled_from([0, -1, 2**31, 2**63, 10**400])
    | st.floats()
    | st.none()
    | st.booleans()
    | st.text(max_size=5)
)
KEYS = ("num_hidden_layers", "hidden_size", "vocab_size", "num_attention_heads", "num_key_value_heads", "intermediate_size")
KEYS += ("head_dim", "max_position_embeddings", "rope_theta", "rms_norm_eps", "model_type", "architectures", "dtype")


CHANGES = st.dictionaries(st.sampled_from(KEYS), NUMBERS | st.lists(NUMBERS, max_size=2), min_size=1, max_size=4)
FLIPS = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=5)
NAMES = st.sampled_from(["config.json", "tokenizer.json", WEIGHTS])


def said(look: Callable[[], object]) -> str:
    """What is said where it is refused; any other error is the test's."""
    try:
        look()
    except APIError as error:
        return error.message
    return ""


@given(CHANGES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_values_are_analysed_or_refused_and_the_numbers_are_within_reason(model: Path, changes: dict[str, Any]) -> None:
    original = (model / "config.json").read_text()
    config(**changes)(model)
    known = catalog(model)
    if not said(lambda: known.analysis("m")):
        assert 0 < known.analysis("m").load_bytes < 2**62
    assert len(known.models()) == 1
    (model / "config.json").write_text(original)


def flipped(path: Path, flips: list[tuple[int, int]]) -> bytes:
    """Returns what was there before."""
    original = path.read_bytes()
    raw = bytearray(original)
    for at, value in flips:
        raw[at % len(raw)] = value
    path.write_bytes(raw)
    return original


@given(FLIPS, NAMES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes_are_a_model_or_a_refusal(model: Path, flips: list[tuple[int, int]], name: str) -> None:
    original = flipped(model / name, flips)
    known = catalog(model)
    assert len(said(lambda: known.analysis("m"))) < 1000
    assert len(known.models()) == 1
    (model / name).write_bytes(original)


@pytest.mark.slow
@given(FLIPS, NAMES)
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes_load_or_are_one_error(model: Path, flips: list[tuple[int, int]], name: str) -> None:
    """Whatever the look at the files lets pass."""
    original = flipped(model / name, flips)
    if not said(lambda: catalog(model).analysis("m")):
        assert len(said(lambda: load(model))) < 1000
    (model / name).write_bytes(original)
