"""Small random models of each family that hears, and handlers of them."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from handlers import types as t
from handlers.audio import AudioHandler

RATE = 16_000
SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>"]
SPECIAL += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAOINSHRDLU"]


def tone(seconds: float) -> t.Sound:
    """Something to hear: a tone that rises."""
    count = round(seconds * RATE)
    samples = (round(8000 * math.sin(i * i / RATE / 4)) for i in range(count))
    return t.Sound(pcm=struct.pack(f"<{count}h", *samples), rate=RATE)


def load(folder: Path, **changes: object) -> AudioHandler:
    spec = t.ModelSpec(id="tiny", path=str(folder), kind="audio", **{"device": "cpu", "threads": 1, **changes})
    handler = AudioHandler(spec)
    handler.load_model(lambda stage, done=0, total=0: None)
    return handler


@pytest.fixture(scope="session")
def sound() -> Callable[[float], t.Sound]:
    return tone


@pytest.fixture(scope="session")
def listening() -> Callable[..., AudioHandler]:
    return load


def save_whisper(folder: Path, *, multilingual: bool) -> Path:
    """Random weights; every byte is a token, and the special ones stand where Whisper has them."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration
    from transformers import WhisperTokenizerFast as WhisperTokenizer

    alphabet = {token: number for number, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens([f"<|{i * 0.02:.2f}|>" for i in range(1501)])
    (folder / "raw.json").write_text(tokenizer.to_str())
    WhisperTokenizer(tokenizer_file=str(folder / "raw.json"), additional_special_tokens=SPECIAL).save_pretrained(folder)
    (folder / "raw.json").unlink()
    ids = {token: 256 + number for number, token in enumerate(SPECIAL)}
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    torch.manual_seed(1)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=256 + len(SPECIAL) + 1501,
            d_model=16,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            init_std=0.5,
            decoder_start_token_id=start,
            eos_token_id=end,
            bos_token_id=end,
            pad_token_id=end,
        )
    )
    several = {
        "lang_to_id": {"<|en|>": ids["<|en|>"], "<|de|>": ids["<|de|>"]},
        "task_to_id": {"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
        "alignment_heads": [[1, 0], [1, 1]],
    }
    model.generation_config = GenerationConfig(
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        suppress_tokens=[],
        begin_suppress_tokens=[end],
        decoder_start_token_id=start,
        eos_token_id=end,
        bos_token_id=end,
        pad_token_id=end,
        is_multilingual=multilingual,
        max_initial_timestamp_index=50,
        max_new_tokens=24,
        **(several if multilingual else {}),
    )
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_whisper(tmp_path_factory.mktemp("tiny-whisper"), multilingual=True)


@pytest.fixture(scope="session")
def tiny_whisper_english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_whisper(tmp_path_factory.mktemp("tiny-whisper-en"), multilingual=False)


def small_wav2vec2() -> dict[str, object]:
    return {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 37,
        "conv_dim": (32, 32, 32),
        "conv_stride": (5, 8, 8),
        "conv_kernel": (10, 8, 8),
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
        "initializer_range": 0.5,
    }


@pytest.fixture(scope="session", params=["Wav2Vec2", "Hubert", "WavLM"])
def tiny_ctc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import json

    import torch
    import transformers
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor

    folder = tmp_path_factory.mktemp(f"tiny-{request.param}")
    (folder / "letters.json").write_text(json.dumps({letter: i for i, letter in enumerate(LETTERS)}))
    Wav2Vec2CTCTokenizer(str(folder / "letters.json")).save_pretrained(folder)
    (folder / "letters.json").unlink()
    Wav2Vec2FeatureExtractor(sampling_rate=RATE).save_pretrained(folder)
    torch.manual_seed(0)
    config = getattr(transformers, f"{request.param}Config")(**small_wav2vec2(), vocab_size=len(LETTERS), pad_token_id=0)
    getattr(transformers, f"{request.param}ForCTC")(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", params=["Moonshine", "Speech2Text"])
def tiny_seq2seq(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    import torch
    import transformers

    folder = tmp_path_factory.mktemp(f"tiny-{request.param}")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_llama)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    if request.param == "Moonshine":
        transformers.Wav2Vec2FeatureExtractor(sampling_rate=RATE).save_pretrained(folder)
        config = transformers.MoonshineConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            encoder_num_hidden_layers=2,
            decoder_num_hidden_layers=2,
            encoder_num_attention_heads=2,
            decoder_num_attention_heads=2,
            initializer_range=0.5,
        )
        model = transformers.MoonshineForConditionalGeneration(config)
    else:
        transformers.Speech2TextFeatureExtractor(feature_size=16, num_mel_bins=16).save_pretrained(folder)
        config = transformers.Speech2TextConfig(
            vocab_size=len(tokenizer),
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            conv_channels=32,
            input_feat_per_channel=16,
            init_std=0.5,
        )
        model = transformers.Speech2TextForConditionalGeneration(config)
    model.generation_config.max_new_tokens = 12
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", params=["Wav2Vec2ForSequenceClassification", "ASTForAudioClassification"])
def tiny_classifier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    import transformers

    folder = tmp_path_factory.mktemp(request.param)
    labels = {0: "speech", 1: "music", 2: "rain"}
    torch.manual_seed(0)
    if request.param.startswith("AST"):
        transformers.ASTFeatureExtractor(max_length=128).save_pretrained(folder)
        config = transformers.ASTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=37,
            max_length=128,
            initializer_range=0.5,
            id2label=labels,
        )
    else:
        transformers.Wav2Vec2FeatureExtractor(sampling_rate=RATE).save_pretrained(folder)
        config = transformers.Wav2Vec2Config(**small_wav2vec2(), id2label=labels)
    getattr(transformers, request.param)(config).save_pretrained(folder)
    return folder
