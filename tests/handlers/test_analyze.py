"""Facts are read from files alone: parameters, dtypes, bytes, context, template; and no heavy library is imported for it."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from handlers import types as t
from handlers.analyze import RUNTIME_BYTES, USUAL_CACHE, USUAL_SEQUENCES, analyze_snapshot, cache_bytes, missing_files
from handlers.base import BaseHandler
from openai_compat.errors import ModelUnavailable

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 10,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 32,
    "max_position_embeddings": 100,
    "tie_word_embeddings": False,
}


class Writer(BaseHandler):
    modes = {"auto": t.Mode(description="")}  # noqa: RUF012

    def load_model(self, report: t.LoadReport) -> None: ...

    def generate_text(self, request: t.TextRequest, ctx: t.RunContext) -> t.TextResult:
        raise NotImplementedError

    @classmethod
    def get_dependencies(cls, spec: t.ModelSpec) -> tuple[str, ...]:
        return ("torch",)


def write_weights(path: Path, shapes: dict[str, tuple[int, ...]], dtype: str = "BF16", width: int = 2) -> None:
    header, at = {}, 0
    for name, shape in shapes.items():
        size = width
        for dimension in shape:
            size *= dimension
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(at))


def snapshot(root: Path, config: dict[str, Any] | None = None, **files: str) -> t.ModelSpec:
    (root / "config.json").write_text(json.dumps(CONFIG | (config or {})))
    (root / "tokenizer.json").write_text("{}")
    write_weights(root / "model.safetensors", {"model.embed_tokens.weight": (10, 32), "lm_head.weight": (10, 32)})
    for name, content in files.items():
        (root / name.replace("__", ".")).write_text(content)
    return t.ModelSpec(id="m", path=str(root), kind="writer")


def test_a_snapshot_is_described_by_its_headers(tmp_path: Path) -> None:
    found = analyze_snapshot(snapshot(tmp_path), Writer)
    assert (found.architecture, found.parameters, found.dtype) == ("LlamaForCausalLM", 640, "bfloat16")
    assert found.bytes_per_dtype == {"float32": 2560, "bfloat16": 1280, "float16": 1280, "int8": 640}
    cache = 2 * 2 * 2 * 8 * 100 * 2 * USUAL_SEQUENCES
    assert found.load_bytes == 1280 + cache + RUNTIME_BYTES
    assert (found.context_length, found.has_chat_template, found.weight_format) == (100, False, "safetensors")
    assert (found.capabilities, found.modes, found.dependencies) == (("generate_text",), ("auto",), ("torch",))


def test_tied_weights_that_are_stored_twice_count_once(tmp_path: Path) -> None:
    assert analyze_snapshot(snapshot(tmp_path, {"tie_word_embeddings": True}), Writer).parameters == 320


def test_the_dtype_asked_for_decides_the_bytes_needed(tmp_path: Path) -> None:
    spec = snapshot(tmp_path)
    wide = analyze_snapshot(t.ModelSpec(id="m", path=spec.path, kind="writer", dtype="float32"), Writer)
    assert wide.load_bytes - analyze_snapshot(spec, Writer).load_bytes == 1280


@pytest.mark.parametrize(("asked", "given"), [(40, 40), (4000, 100), (None, 100)])
def test_the_context_can_be_made_shorter_but_not_longer(tmp_path: Path, asked: int | None, given: int) -> None:
    spec = snapshot(tmp_path)
    found = analyze_snapshot(t.ModelSpec(id="m", path=spec.path, kind="writer", context_length=asked), Writer)
    assert found.context_length == given


@pytest.mark.parametrize("file", [{"chat_template__jinja": "{{ x }}"}, {"tokenizer_config__json": '{"chat_template": "x"}'}])
def test_a_chat_template_is_seen_wherever_it_stands(tmp_path: Path, file: dict[str, str]) -> None:
    assert analyze_snapshot(snapshot(tmp_path, **file), Writer).has_chat_template


def test_numbers_out_of_bounds_count_as_not_given(tmp_path: Path) -> None:
    lies = {"max_position_embeddings": 10**30, "num_hidden_layers": -4, "hidden_size": "wide", "head_dim": True}
    found = analyze_snapshot(snapshot(tmp_path, lies), Writer)
    assert found.context_length is None
    assert found.load_bytes == 1280 + RUNTIME_BYTES


def test_shards_of_an_index_are_added_up(tmp_path: Path) -> None:
    spec = snapshot(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "a.safetensors")
    write_weights(tmp_path / "b.safetensors", {"c": (5,)}, "F32", 4)
    index = {"weight_map": {"lm_head.weight": "a.safetensors", "c": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert analyze_snapshot(spec, Writer).parameters == 645
    (tmp_path / "b.safetensors").unlink()
    assert missing_files(spec) == ("b.safetensors: is missing, and the index names it",)


def test_an_index_may_not_name_files_elsewhere(tmp_path: Path) -> None:
    spec = snapshot(tmp_path, model__safetensors__index__json='{"weight_map": {"a": "../secret.safetensors"}}')
    assert "outside the model's folder" in missing_files(spec)[0]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    spec = snapshot(tmp_path)
    assert missing_files(spec) == ()
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "model.safetensors").unlink()
    assert missing_files(spec) == ("model.safetensors: is missing", "tokenizer.json: is missing")
    assert "no such folder" in missing_files(t.ModelSpec(id="m", path=str(tmp_path / "x"), kind="writer"))[0]


@pytest.mark.parametrize("content", ["[1]", "{", "[" * 100_000, "\x00"])
def test_a_broken_configuration_is_a_typed_refusal(tmp_path: Path, content: str) -> None:
    spec = snapshot(tmp_path)
    (tmp_path / "config.json").write_text(content)
    assert missing_files(spec)[0].startswith("config.json: ")
    with pytest.raises(ModelUnavailable):
        analyze_snapshot(spec, Writer)


def test_facts_import_no_heavy_library(tmp_path: Path) -> None:
    snapshot(tmp_path)
    program = (
        "import sys; from handlers import registry, types as t\n"
        f"spec = t.ModelSpec(id='m', path={str(tmp_path)!r}, kind='transformer')\n"
        "print(registry.resolve('transformer').analyze(spec).parameters)\n"
        "print({'torch', 'transformers', 'numpy', 'diffusers'} & sys.modules.keys())"
    )
    ended = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["640", "set()"]


def test_the_estimate_counts_the_cache_that_the_engine_takes() -> None:
    config = {"num_hidden_layers": 16, "num_attention_heads": 8, "hidden_size": 512, "num_key_value_heads": 8}
    one_token = 2 * 16 * 512 * 2
    usual = t.ModelSpec(id="m", path="", kind="transformer")
    told = t.ModelSpec(id="m", path="", kind="transformer", options={"engine": {"cache_bytes": USUAL_CACHE * 2}})
    assert cache_bytes(usual, config, 1000) == USUAL_CACHE
    assert cache_bytes(told, config, 1000) == USUAL_CACHE * 2
    assert cache_bytes(usual, config, 100_000) == one_token * 100_000
