"""A Whisper of CTranslate2's format as one of transformers: the same numbers under other names.

The tokenizer's special tokens are named one by one up to ``<|notimestamps|>``: without that every time mark is 2.12 s off.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
_BYTES = (4, 1, 2, 4, 2, 2)


def convert(source: Path, target: Path) -> Path:
    """Write a folder that ``WhisperForConditionalGeneration.from_pretrained`` loads, in float32."""
    import torch
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    given = dict(variables(source / "model.bin"))
    config = _config(given)
    model = WhisperForConditionalGeneration(config)
    weights = {name: torch.from_numpy(value.astype("float32")) for name, value in _renamed(given, config).items()}
    weights["proj_out.weight"] = weights["model.decoder.embed_tokens.weight"]
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if missing or unexpected:
        raise ValueError(f"missing {missing}, unexpected {unexpected}")
    model.generation_config = _generation(source, config)
    model.save_pretrained(target)
    _tokenizer(source).save_pretrained(target)
    WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(target)
    return target


def variables(path: Path) -> Iterator[tuple[str, Any]]:
    """Name and array of each variable."""
    import numpy as np

    data = path.read_bytes()
    at = 4

    def number(code: str) -> int:
        nonlocal at
        value = struct.unpack_from(code, data, at)[0]
        at += struct.calcsize(code)
        return value

    def name() -> str:
        nonlocal at
        length = number("<H")
        at += length
        return data[at - length : at - 1].decode()

    name()
    number("<I")
    for _ in range(number("<I")):
        label, rank = name(), number("<B")
        shape = [number("<I") for _ in range(rank)]
        kind, size = number("<B"), number("<I")
        yield label, np.frombuffer(data, _TYPES[kind], size // _BYTES[kind], at).reshape(shape)
        at += size


def _config(given: dict[str, Any]) -> Any:
    from transformers import WhisperConfig

    vocabulary, width = given["decoder/embeddings/weight"].shape
    layers = sum(name.endswith("self_attention/linear_0/weight") and name.startswith("decoder") for name in given)
    hears = given["encoder/conv1/weight"].shape[1]
    english = vocabulary == 51864
    return WhisperConfig(
        vocab_size=vocabulary,
        d_model=width,
        num_mel_bins=hears,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=width // 64,
        decoder_attention_heads=width // 64,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        decoder_start_token_id=50257 if english else 50258,
        eos_token_id=50256 if english else 50257,
        bos_token_id=50256 if english else 50257,
        pad_token_id=50256 if english else 50257,
    )


def _renamed(given: dict[str, Any], config: Any) -> dict[str, Any]:
    found = {
        "model.encoder.embed_positions.weight": given["encoder/position_encodings/encodings"],
        "model.decoder.embed_positions.weight": given["decoder/position_encodings/encodings"],
        "model.decoder.embed_tokens.weight": given["decoder/embeddings/weight"],
    }
    for conv in ("conv1", "conv2"):
        found |= {f"model.encoder.{conv}.{part}": given[f"encoder/{conv}/{part}"] for part in ("weight", "bias")}
    for side in ("encoder", "decoder"):
        found |= _norm(given, f"{side}/layer_norm", f"model.{side}.layer_norm")
        for layer in range(config.decoder_layers):
            found |= _layer(given, f"{side}/layer_{layer}", f"model.{side}.layers.{layer}")
    return found


def _layer(given: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    found = _attention(given, f"{old}/self_attention", f"{new}.self_attn")
    found |= _norm(given, f"{old}/self_attention/layer_norm", f"{new}.self_attn_layer_norm")
    if f"{old}/attention/linear_0/weight" in given:
        found |= _attention(given, f"{old}/attention", f"{new}.encoder_attn")
        found |= _norm(given, f"{old}/attention/layer_norm", f"{new}.encoder_attn_layer_norm")
    for number, name in enumerate(("fc1", "fc2")):
        found |= {f"{new}.{name}.{part}": given[f"{old}/ffn/linear_{number}/{part}"] for part in ("weight", "bias")}
    return found | _norm(given, f"{old}/ffn/layer_norm", f"{new}.final_layer_norm")


def _attention(given: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """The projections lie one above the other: all three of a self-attention, key and value of the other."""
    import numpy as np

    parts = {}
    for part in ("weight", "bias"):
        joined = [given[f"{old}/linear_{number}/{part}"] for number in range(3) if f"{old}/linear_{number}/{part}" in given]
        stacked = np.concatenate(joined)
        query, key, value, out = np.split(stacked, 4)
        parts |= {f"{new}.{name}.{part}": array for name, array in
                  (("q_proj", query), ("k_proj", key), ("v_proj", value), ("out_proj", out))}  # fmt: skip
    del parts[f"{new}.k_proj.bias"]  # a key has none, and here it is zero
    return parts


def _norm(given: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {f"{new}.weight": given[f"{old}/gamma"], f"{new}.bias": given[f"{old}/beta"]}


def _generation(source: Path, config: Any) -> Any:
    from transformers import GenerationConfig

    told = json.loads((source / "config.json").read_text())
    tokens = {token["content"]: token["id"] for token in json.loads((source / "tokenizer.json").read_text())["added_tokens"]}
    english = config.vocab_size == 51864
    several = {
        "lang_to_id": {
            text: number for text, number in tokens.items() if number in told["lang_ids"] and text != "<|translate|>"
        },
        "task_to_id": {"transcribe": tokens["<|transcribe|>"], "translate": tokens["<|translate|>"]},
    }
    return GenerationConfig(
        alignment_heads=told["alignment_heads"],
        suppress_tokens=told["suppress_ids"],
        begin_suppress_tokens=told["suppress_ids_begin"],
        no_timestamps_token_id=tokens["<|notimestamps|>"],
        prev_sot_token_id=tokens["<|startofprev|>"],
        decoder_start_token_id=config.decoder_start_token_id,
        eos_token_id=config.eos_token_id,
        bos_token_id=config.bos_token_id,
        pad_token_id=config.pad_token_id,
        is_multilingual=not english,
        max_initial_timestamp_index=50,
        max_length=448,
        return_timestamps=False,
        **({} if english else several),
    )


def _tokenizer(source: Path) -> Any:
    from transformers import WhisperTokenizerFast

    added = json.loads((source / "tokenizer.json").read_text())["added_tokens"]
    special = [token["content"] for token in added if token["special"]]
    last = special.index("<|notimestamps|>") + 1
    return WhisperTokenizerFast(tokenizer_file=str(source / "tokenizer.json"), additional_special_tokens=special[:last])
