"""Tiny speaking and sounding models with random weights, saved as their real ones are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handlers import types as t
from handlers.audio import AudioHandler

Loader = Callable[..., AudioHandler]
LETTERS = "abcdefghijklmnopqrstuvwxyz' -"


def word_tokenizer(folder: Path, **special: str) -> None:
    """A fast tokenizer of letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["[PAD]", "</s>", "[UNK]", *LETTERS, *LETTERS.upper(), *"0123456789.,!?"]
    vocab = {name: number for number, name in enumerate(dict.fromkeys(names))}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="</s>", unk_token="[UNK]", **special
    )
    fast.save_pretrained(folder)


def fill_codebooks(codec: Any) -> None:
    """They are all zeros until they are trained, and every code would sound alike."""
    import torch

    for layer in codec.quantizer.layers:
        torch.nn.init.normal_(layer.codebook.embed, std=2.0)


def save_vits(folder: Path, speakers: int = 1) -> Path:
    import torch
    from transformers import VitsConfig, VitsModel, VitsTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    vocab = {name: number for number, name in enumerate(["<unk>", *LETTERS])}
    (folder / "vocab-source.json").write_text(json.dumps(vocab))
    tokenizer = VitsTokenizer(str(folder / "vocab-source.json"), phonemize=False, add_blank=True, normalize=True, pad_token=" ")
    (folder / "vocab-source.json").unlink()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    config = VitsConfig(
        vocab_size=len(vocab),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=16,
        flow_size=16,
        spectrogram_bins=9,
        upsample_initial_channel=16,
        upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        prior_encoder_num_flows=2,
        prior_encoder_num_wavenet_layers=1,
        posterior_encoder_num_wavenet_layers=1,
        duration_predictor_num_flows=2,
        duration_predictor_flow_bins=4,
        num_speakers=speakers,
        speaker_embedding_size=8 if speakers > 1 else 0,
        sampling_rate=16_000,
    )
    VitsModel(config).save_pretrained(folder)
    return folder


def save_speecht5(folder: Path) -> Path:
    import sentencepiece
    import torch
    from safetensors.torch import save_file
    from transformers import SpeechT5Config, SpeechT5ForTextToSpeech, SpeechT5HifiGan, SpeechT5HifiGanConfig, SpeechT5Tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join([LETTERS, "The quick brown fox jumps over the lazy dog."] * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "spm_char"), model_type="char", vocab_size=40, minloglevel=2,
        hard_vocab_limit=False, bos_id=0, pad_id=1, eos_id=2, unk_id=3,
    )  # fmt: skip
    SpeechT5Tokenizer(str(folder / "spm_char.model")).save_pretrained(folder)
    for left in (corpus, folder / "spm_char.vocab"):
        left.unlink()
    torch.manual_seed(2)
    config = SpeechT5Config(
        vocab_size=80,
        hidden_size=16,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        num_mel_bins=10,
        speech_decoder_prenet_units=16,
        speech_decoder_postnet_units=16,
        speaker_embedding_dim=8,
        reduction_factor=2,
        max_text_positions=600,
    )
    model = SpeechT5ForTextToSpeech(config)
    torch.nn.init.constant_(model.speech_decoder_postnet.prob_out.bias, -5.0)  # or it would stop at the first step
    model.save_pretrained(folder)
    vocoder = SpeechT5HifiGanConfig(
        model_in_dim=10, upsample_initial_channel=16, upsample_rates=[4, 4], upsample_kernel_sizes=[8, 8],
        resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]], initializer_range=0.3,
    )  # fmt: skip
    SpeechT5HifiGan(vocoder).save_pretrained(folder / "vocoder")
    save_file({"anna": torch.randn(8), "bert": torch.randn(8)}, folder / "speaker_embeddings.safetensors")
    return folder


def save_bark(folder: Path, *, voices: bool = True) -> Path:
    import numpy as np
    import torch
    from safetensors.numpy import save_file
    from transformers import BarkConfig, BarkModel, EncodecConfig
    from transformers.models.bark.generation_configuration_bark import (
        BarkCoarseGenerationConfig,
        BarkFineGenerationConfig,
        BarkGenerationConfig,
        BarkSemanticGenerationConfig,
    )

    word_tokenizer(folder)
    torch.manual_seed(3)
    sizes = {"block_size": 1024, "num_layers": 1, "num_heads": 2, "hidden_size": 16, "dropout": 0.0, "bias": False}
    config = BarkConfig(
        semantic_config={**sizes, "input_vocab_size": 400, "output_vocab_size": 200},
        coarse_acoustics_config={**sizes, "input_vocab_size": 400, "output_vocab_size": 400},
        fine_acoustics_config={
            **sizes, "input_vocab_size": 65, "output_vocab_size": 65, "n_codes_total": 8, "n_codes_given": 1,
        },
        codec_config=EncodecConfig(
            num_filters=4, hidden_size=16, codebook_size=64, codebook_dim=16, upsampling_ratios=[2, 2], num_lstm_layers=1,
            sampling_rate=24_000, target_bandwidths=[300.0],
        ).to_dict(),
    )  # fmt: skip
    model = BarkModel(config)
    fill_codebooks(model.codec_model)
    model.save_pretrained(folder)
    generation = BarkGenerationConfig(
        semantic_config=BarkSemanticGenerationConfig(
            max_new_tokens=12, do_sample=True,
            semantic_vocab_size=150, semantic_pad_token=150, eos_token_id=150, text_encoding_offset=160,
            text_pad_token=395, semantic_infer_token=396, max_input_semantic_length=32,
        ).to_dict(),
        coarse_acoustics_config=BarkCoarseGenerationConfig(
            max_new_tokens=40, do_sample=True,
            coarse_semantic_pad_token=390, coarse_infer_token=391, max_coarse_input_length=32,
            max_coarse_history=60, sliding_window_len=20, coarse_rate_hz=75, semantic_rate_hz=49.9, n_coarse_codebooks=2,
        ).to_dict(),
        fine_acoustics_config=BarkFineGenerationConfig(
            max_fine_history_length=64, max_fine_input_length=128, n_fine_codebooks=8
        ).to_dict(),
        sample_rate=24_000,
        codebook_size=64,
    )  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(generation.to_dict()))
    if voices:
        rng = np.random.default_rng(0)
        arrays = {
            f"{name}/{part}": rng.integers(0, 60, shape)
            for name in ("en_0", "en_1")
            for part, shape in (("semantic_prompt", (20,)), ("coarse_prompt", (2, 30)), ("fine_prompt", (8, 30)))
        }
        save_file(arrays, folder / "speaker_embeddings.safetensors")
    return folder


def save_musicgen(folder: Path, channels: int = 1) -> Path:
    import torch
    from transformers import (
        EncodecConfig,
        MusicgenConfig,
        MusicgenDecoderConfig,
        MusicgenForConditionalGeneration,
        T5Config,
    )

    word_tokenizer(folder)
    torch.manual_seed(4)
    text = T5Config(vocab_size=90, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    codec = EncodecConfig(
        num_filters=4, hidden_size=16, codebook_size=64, codebook_dim=16, upsampling_ratios=[4, 4], num_lstm_layers=1,
        sampling_rate=1600, target_bandwidths=[2.4], audio_channels=1,
    )  # fmt: skip
    decoder = MusicgenDecoderConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16, num_codebooks=4 * channels,
        audio_channels=channels, pad_token_id=64, bos_token_id=64, max_position_embeddings=512,
    )  # fmt: skip
    config = MusicgenConfig(text_encoder=text.to_dict(), audio_encoder=codec.to_dict(), decoder=decoder.to_dict())
    model = MusicgenForConditionalGeneration(config)
    fill_codebooks(model.audio_encoder)
    model.generation_config.update(
        decoder_start_token_id=64, pad_token_id=64, bos_token_id=64, do_sample=True, guidance_scale=3.0
    )
    model.save_pretrained(folder)
    return folder


def save_stable_audio(folder: Path) -> Path:
    import torch
    from diffusers import (
        AutoencoderOobleck,
        EDMDPMSolverMultistepScheduler,
        StableAudioDiTModel,
        StableAudioPipeline,
        StableAudioProjectionModel,
    )
    from transformers import AutoTokenizer, T5Config, T5EncoderModel

    word_tokenizer(folder / "words", model_max_length=64)
    torch.manual_seed(5)
    pipeline = StableAudioPipeline(
        transformer=StableAudioDiTModel(
            sample_size=64, in_channels=3, num_layers=1, attention_head_dim=4, num_attention_heads=4,
            num_key_value_attention_heads=2, out_channels=3, cross_attention_dim=4, time_proj_dim=8,
            global_states_input_dim=8, cross_attention_input_dim=4,
        ),
        scheduler=EDMDPMSolverMultistepScheduler(solver_order=2, prediction_type="v_prediction", sigma_data=1.0),
        vae=AutoencoderOobleck(
            encoder_hidden_size=6, downsampling_ratios=[2, 4], decoder_channels=3, decoder_input_channels=3,
            audio_channels=2, channel_multiples=[2, 4], sampling_rate=400,
        ),
        text_encoder=T5EncoderModel(T5Config(vocab_size=90, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)),
        tokenizer=AutoTokenizer.from_pretrained(folder / "words"),
        projection_model=StableAudioProjectionModel(text_encoder_dim=16, conditioning_dim=4, min_value=0, max_value=32),
    )  # fmt: skip
    pipeline.save_pretrained(folder / "model")
    return folder / "model"


def save_audioldm2(folder: Path) -> Path:
    import torch
    import transformers as tf
    from diffusers import (
        AudioLDM2Pipeline,
        AudioLDM2ProjectionModel,
        AudioLDM2UNet2DConditionModel,
        AutoencoderKL,
        DDIMScheduler,
    )

    letters = [*LETTERS[:26], *LETTERS[:26].upper()]
    first = {name: i for i, name in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", "\u0120", *letters])}
    second = [*((name, 0.0) for name in ("<pad>", "</s>", "<unk>")), *((name, -1.0) for name in ("\u2581", *letters))]
    text = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 1, "num_hidden_layers": 1, "vocab_size": 100}
    sound = {
        "spec_size": 8, "window_size": 4, "num_mel_bins": 8, "depths": [1, 1], "num_attention_heads": [1, 1],
        "num_hidden_layers": 1, "patch_size": 2, "patch_stride": 2, "projection_dim": 8,
    }  # fmt: skip
    torch.manual_seed(6)
    clap = tf.ClapConfig(text_config={**text, "projection_dim": 8}, audio_config=sound, projection_dim=16)
    pipeline = AudioLDM2Pipeline(
        vae=AutoencoderKL(
            block_out_channels=[8, 16], in_channels=1, out_channels=1, norm_num_groups=8, latent_channels=4,
            down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
        ),
        text_encoder=tf.ClapModel(clap),
        text_encoder_2=tf.T5EncoderModel(tf.T5Config(vocab_size=100, d_model=32, d_ff=16, d_kv=8, num_heads=1, num_layers=1)),
        projection_model=AudioLDM2ProjectionModel(text_encoder_dim=16, text_encoder_1_dim=32, langauge_model_dim=16),
        language_model=tf.GPT2LMHeadModel(
            tf.GPT2Config(n_embd=16, n_head=1, n_layer=1, vocab_size=100, n_positions=99, max_new_tokens=8)
        ),
        tokenizer=tf.RobertaTokenizer(vocab=first, merges=[], model_max_length=40),
        tokenizer_2=tf.T5Tokenizer(vocab=second, extra_ids=0, model_max_length=40),
        feature_extractor=tf.ClapFeatureExtractor(hop_length=7900),
        unet=AudioLDM2UNet2DConditionModel(
            block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=8, in_channels=4, out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=((None, 16, 32), (None, 16, 32)),
        ),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False),
        vocoder=tf.SpeechT5HifiGan(
            tf.SpeechT5HifiGanConfig(
                model_in_dim=8, sampling_rate=400, upsample_initial_channel=16, upsample_rates=[2, 2],
                upsample_kernel_sizes=[4, 4], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]],
                normalize_before=False, initializer_range=0.1,
            )
        ),
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def vits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vits(tmp_path_factory.mktemp("vits"))


@pytest.fixture(scope="session")
def vits_many_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vits(tmp_path_factory.mktemp("vits-many"), speakers=3)


@pytest.fixture(scope="session")
def speecht5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_speecht5(tmp_path_factory.mktemp("speecht5"))


@pytest.fixture(scope="session")
def bark_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bark(tmp_path_factory.mktemp("bark"))


@pytest.fixture(scope="session")
def musicgen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_musicgen(tmp_path_factory.mktemp("musicgen"))


@pytest.fixture(scope="session")
def stable_audio_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stable_audio(tmp_path_factory.mktemp("stable-audio"))


@pytest.fixture(scope="session")
def audioldm2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_audioldm2(tmp_path_factory.mktemp("audioldm2"))


def load_audio(folder: Path, **changes: object) -> AudioHandler:
    spec = t.ModelSpec(id="tiny", path=str(folder), kind="audio", **{"device": "cpu", "threads": 1, **changes})
    handler = AudioHandler(spec)
    handler.load_model(lambda stage, done=0, total=0: None)
    return handler


@pytest.fixture(scope="session")
def load() -> Loader:
    return load_audio
