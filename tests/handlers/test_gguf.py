"""A GGUF file becomes a folder that loads and answers like the file, or nothing at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from handlers.gguf import PARENT_GONE, convert
from handlers.headers import BadHeader, read_safetensors

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def write_tiny_llama(path: Path) -> None:
    """A Llama of one layer with a byte-level vocabulary, half of its matrices in Q8_0."""
    import gguf
    import numpy

    generator = numpy.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(8)
    words = [chr(code) for code in range(33, 127)] + ["ab", "<s>", "</s>"]
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(words)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(95)
    writer.add_eos_token_id(96)
    writer.add_chat_template(TEMPLATE)
    shapes = {"token_embd": (97, 32), "output_norm": (32,), "blk.0.attn_norm": (32,), "blk.0.ffn_norm": (32,)}
    shapes |= {"blk.0.attn_q": (32, 32), "blk.0.attn_k": (16, 32), "blk.0.attn_v": (16, 32), "blk.0.attn_output": (32, 32)}
    shapes |= {"blk.0.ffn_gate": (64, 32), "blk.0.ffn_up": (64, 32), "blk.0.ffn_down": (32, 64)}
    for name, shape in shapes.items():
        values = generator.standard_normal(shape).astype("float32")
        if name.startswith("blk.0.ffn_") and len(shape) == 2:
            packed = gguf.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(f"{name}.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.slow
def test_a_converted_model_loads_with_its_tokenizer_and_template(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "m.gguf")
    command = [sys.executable, "-P", "-m", "handlers.gguf", str(tmp_path / "m.gguf"), str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    total = 2 * (97 * 32 + 3 * 32 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32)
    assert ended.stdout.splitlines() == [f"[0, {total}]", f"[{total}, {total}]"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"}
    assert {tensor.dtype for tensor in read_safetensors(tmp_path / "out" / "model.safetensors").tensors} == {"bfloat16"}
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == TEMPLATE
    assert "quantization" not in (tmp_path / "out" / "config.json").read_text()
    check = (
        "import sys; from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "text = tokenizer.apply_chat_template([{'role': 'user', 'content': 'xyz'}], return_tensors='pt', return_dict=True)\n"
        "print(tuple(model(**text).logits.shape), tokenizer.eos_token)"
    )
    loaded = subprocess.run(
        [sys.executable, "-P", "-c", check, str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split("\n")[-2] == "(1, 3, 97) </s>"


def test_a_broken_file_is_refused_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(3))
    with pytest.raises(BadHeader, match=r"m\.gguf"):
        convert(tmp_path / "m.gguf", tmp_path / "out", lambda done, total: None)
    assert not (tmp_path / "out").exists()


def test_the_child_ends_when_its_parent_does(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "m.gguf")
    command = [sys.executable, "-P", "-m", "handlers.gguf", "--watch-stdin", str(tmp_path / "m.gguf"), str(tmp_path / "out")]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert ended.returncode == PARENT_GONE
    assert not (tmp_path / "out").exists()
