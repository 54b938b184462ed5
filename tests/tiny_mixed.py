"""Tiny models with random weights that see or hear, one of each family, saved as the library saves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

WORDS = [
    "Hello world, hello there!",
    "The quick brown fox jumps over the lazy dog.",
    "naïve café 😀 日本語, a picture of a cat",
]
MARKS = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<boi>", "<eoi>", "<video>"),
    *("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"),
    *(f"<row_{row}_col_{column}>" for row in (1, 2, 3) for column in (1, 2, 3)),
]
VOCAB = 420
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for p in m['content'] %}{% if p['type'] == 'image' %}<image>\n{% elif p['type'] == 'audio' %}<|AUDIO|>\n"
    "{% else %}{{ p['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.4,
    "eos_token_id": 2,
    "bos_token_id": 1,
    "pad_token_id": 0,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
    "initializer_range": 0.4,
}
ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
SQUARE = {"height": 32, "width": 32}
Made = tuple[Any, Any]


def save(folder: Path, family: str, *, template: bool = True, seed: int = 0, **changes: Any) -> Path:
    """``changes`` go to the family's maker."""
    import torch

    torch.manual_seed(seed)
    processor, model = MAKERS[family](_tokenizer(), **changes)
    if not template:
        processor.chat_template = None
    processor.save_pretrained(folder)
    model.eval().save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=MARKS, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(WORDS * 50, trainer)
    names = {"image_token": "<image>", "boi_token": "<boi>", "eoi_token": "<eoi>", "video_token": "<video>"}
    names |= {"start_image_token": "<boi>", "end_image_token": "<eoi>", "context_image_token": "<image>"}
    names |= {"audio_token": "<|AUDIO|>", "audio_bos_token": "<|audio_bos|>", "audio_eos_token": "<|audio_eos|>"}
    usual = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": "<|im_start|>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, extra_special_tokens=names, **usual)


def _llava(tokenizer: Any) -> Made:
    import transformers as hf

    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**VISION),
        text_config=hf.LlamaConfig(**TEXT),
        image_token_index=_id(tokenizer),
        image_seq_length=16,
    )
    reader = hf.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE)
    return _llava_processor(hf.LlavaProcessor, reader, tokenizer), hf.LlavaForConditionalGeneration(config)


def _llava_next(tokenizer: Any) -> Made:
    import transformers as hf

    grid = [[32, 64], [64, 32], [64, 64]]
    config = hf.LlavaNextConfig(
        vision_config=hf.CLIPVisionConfig(**VISION),
        text_config=hf.MistralConfig(**TEXT),
        image_token_index=_id(tokenizer),
        image_grid_pinpoints=grid,
    )
    reader = hf.LlavaNextImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE, image_grid_pinpoints=grid)
    return _llava_processor(hf.LlavaNextProcessor, reader, tokenizer), hf.LlavaNextForConditionalGeneration(config)


def _llava_processor(cls: Any, reader: Any, tokenizer: Any) -> Any:
    sizes = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return cls(reader, tokenizer, chat_template=TEMPLATE, **sizes)


def _idefics3(tokenizer: Any) -> Made:
    import transformers as hf

    text = hf.LlamaConfig(**TEXT)
    config = hf.Idefics3Config(vision_config=dict(VISION), text_config=text, image_token_id=_id(tokenizer), pad_token_id=0)
    reader = hf.Idefics3ImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = hf.Idefics3Processor(reader, tokenizer, image_seq_len=4, chat_template=TEMPLATE)
    return processor, hf.Idefics3ForConditionalGeneration(config)


def _internvl(tokenizer: Any) -> Made:
    import transformers as hf

    vision = hf.InternVLVisionConfig(**{**VISION, "image_size": [32, 32], "patch_size": [8, 8]})
    config = hf.InternVLConfig(
        vision_config=vision,
        text_config=hf.Qwen2Config(**TEXT),
        image_token_id=_id(tokenizer),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    reader = hf.GotOcr2ImageProcessorPil(size=SQUARE, crop_to_patches=True, max_patches=3)
    processor = _still(hf.InternVLProcessor)(reader, tokenizer, image_seq_length=4, chat_template=TEMPLATE)
    return processor, hf.InternVLForConditionalGeneration(config)


def _paligemma(tokenizer: Any) -> Made:
    import transformers as hf

    config = hf.PaliGemmaConfig(
        vision_config=hf.SiglipVisionConfig(**VISION),
        text_config=hf.GemmaConfig(**{**TEXT, "head_dim": 8, "vocab_size": 1600}),
        image_token_index=_id(tokenizer),
        projection_dim=32,
        hidden_size=32,
    )
    reader = hf.SiglipImageProcessorPil(size=SQUARE)
    reader.image_seq_length = 16
    return hf.PaliGemmaProcessor(reader, tokenizer), hf.PaliGemmaForConditionalGeneration(config)


def _gemma3(tokenizer: Any) -> Made:
    import transformers as hf

    kinds = ["sliding_attention", "full_attention"]
    config = hf.Gemma3Config(
        vision_config=hf.SiglipVisionConfig(**VISION),
        text_config=hf.Gemma3TextConfig(**{**TEXT, "head_dim": 8, "sliding_window": 16, "layer_types": kinds}),
        image_token_index=_id(tokenizer),
        boi_token_index=_id(tokenizer, "<boi>"),
        eoi_token_index=_id(tokenizer, "<eoi>"),
        mm_tokens_per_image=4,
        tie_word_embeddings=False,
        initializer_range=0.4,
    )
    reader = hf.Gemma3ImageProcessorPil(size=SQUARE)
    template = TEMPLATE.replace("<image>", "<boi>")
    processor = hf.Gemma3Processor(reader, tokenizer, image_seq_length=4, chat_template=template)
    model = hf.Gemma3ForConditionalGeneration(config)
    model.model.multi_modal_projector.mm_input_projection_weight.data.normal_()  # new models have zeros, and see nothing
    return processor, model


def _qwen2_5_vl(tokenizer: Any) -> Made:
    import transformers as hf

    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "patch_size": 8, "out_hidden_size": 32}
    config = hf.Qwen2_5_VLConfig(
        vision_config={**vision, "window_size": 32, "fullatt_block_indexes": [1], "initializer_range": 0.4},
        text_config={**TEXT, "rope_parameters": {**ROPE, "mrope_section": [1, 1, 2]}},
        image_token_id=_id(tokenizer),
        video_token_id=_id(tokenizer, "<video>"),
        vision_start_token_id=_id(tokenizer, "<boi>"),
        vision_end_token_id=_id(tokenizer, "<eoi>"),
    )
    reader = hf.Qwen2VLImageProcessorPil(patch_size=8, min_pixels=16 * 16, max_pixels=64 * 64)
    template = TEMPLATE.replace("<image>", "<boi><image><eoi>")
    processor = _still(hf.Qwen2_5_VLProcessor)(reader, tokenizer, chat_template=template)
    return processor, hf.Qwen2_5_VLForConditionalGeneration(config)


def _qwen3_vl(tokenizer: Any) -> Made:
    import transformers as hf

    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "patch_size": 8, "out_hidden_size": 32}
    positions = {**ROPE, "mrope_section": [1, 1, 2], "mrope_interleaved": True}
    config = hf.Qwen3VLConfig(
        vision_config={
            **vision,
            "deepstack_visual_indexes": [0],
            "num_position_embeddings": 64,
            "initializer_range": 0.4,
        },
        text_config={**TEXT, "head_dim": 8, "rope_parameters": positions},
        image_token_id=_id(tokenizer),
        video_token_id=_id(tokenizer, "<video>"),
        vision_start_token_id=_id(tokenizer, "<boi>"),
        vision_end_token_id=_id(tokenizer, "<eoi>"),
    )
    reader = hf.Qwen2VLImageProcessorPil(patch_size=8, min_pixels=16 * 16, max_pixels=64 * 64)
    template = TEMPLATE.replace("<image>", "<boi><image><eoi>")
    processor = _still(hf.Qwen3VLProcessor)(reader, tokenizer, chat_template=template)
    return processor, hf.Qwen3VLForConditionalGeneration(config)


def _llava_onevision(tokenizer: Any) -> Made:
    import transformers as hf

    grid = [[32, 64], [64, 32], [64, 64]]
    config = hf.LlavaOnevisionConfig(
        vision_config=hf.SiglipVisionConfig(**VISION),
        text_config=hf.Qwen2Config(**TEXT),
        image_token_index=_id(tokenizer),
        video_token_index=_id(tokenizer, "<video>"),
        image_grid_pinpoints=grid,
        vision_feature_select_strategy="full",
    )
    reader = hf.LlavaOnevisionImageProcessorPil(size=SQUARE, image_grid_pinpoints=grid)
    words = {"image_token": "<image>", "chat_template": TEMPLATE}
    cls = _still(hf.LlavaOnevisionProcessor)
    processor = cls(reader, tokenizer, num_image_tokens=16, vision_feature_select_strategy="full", **words)
    return processor, hf.LlavaOnevisionForConditionalGeneration(config)


def _mllama(tokenizer: Any) -> Made:
    import transformers as hf

    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_global_layers": 1, "attention_heads": 4}
    sizes = {"image_size": 32, "patch_size": 8, "max_num_tiles": 2, "vision_output_dim": 64, "initializer_range": 0.4}
    shapes = {"intermediate_layers_indices": [0], "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]]}
    config = hf.MllamaConfig(
        vision_config={**vision, **sizes, **shapes},
        text_config={**TEXT, "cross_attention_layers": [1], "rope_parameters": ROPE},
        image_token_index=_id(tokenizer),
    )
    reader = hf.MllamaImageProcessorPil(size=SQUARE, max_image_tiles=2)
    model = hf.MllamaForConditionalGeneration(config)
    for name, gate in model.named_parameters():
        if name.endswith("gate"):  # at 0, as new models have it, no picture would be seen
            gate.data.fill_(1.0)
    return hf.MllamaProcessor(reader, tokenizer, chat_template=TEMPLATE), model


def _qwen2_audio(tokenizer: Any) -> Made:
    import transformers as hf

    layers = {"encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 48, "d_model": 32}
    config = hf.Qwen2AudioConfig(
        audio_config={"num_mel_bins": 16, "max_source_positions": 50, "init_std": 0.4, **layers},
        text_config=hf.Qwen2Config(**TEXT),
        audio_token_index=_id(tokenizer, "<|AUDIO|>"),
    )
    reader = hf.WhisperFeatureExtractor(feature_size=16, chunk_length=1)
    return hf.Qwen2AudioProcessor(reader, tokenizer, chat_template=TEMPLATE), hf.Qwen2AudioForConditionalGeneration(config)


def _janus(tokenizer: Any, *, width: int = 32, channels: int = 32, introduced: bool = False) -> Made:
    import transformers as hf

    vision = {name: value for name, value in VISION.items() if name != "intermediate_size"}
    codes = {
        "embed_dim": 4,
        "num_embeddings": 64,
        "latent_channels": 8,
        "base_channels": channels,
        "channel_multiplier": [1, 1],
    }
    sizes = {"num_res_blocks": 1, "num_patches": 4, "num_hidden_layers": 2, "initializer_range": 0.4}
    config = hf.JanusConfig(
        vision_config={**vision, "projection_dim": width, "num_image_tokens": 16},
        vq_config={**codes, **sizes, "projection_dim": width, "image_token_embed_dim": width},
        text_config=hf.LlamaConfig(**{**TEXT, "hidden_size": width}),
        image_token_id=_id(tokenizer),
    )
    processor = hf.JanusProcessor(
        hf.JanusImageProcessorPil(size=SQUARE), tokenizer, num_image_tokens=16, chat_template=TEMPLATE
    )
    processor.use_default_system_prompt = introduced
    model = hf.JanusForConditionalGeneration(config)
    model.generation_config.guidance_scale = 5.0
    model.generation_config.do_sample = True
    return processor, model


def _id(tokenizer: Any, text: str = "<image>") -> int:
    number: int = tokenizer.convert_tokens_to_ids(text)
    return number


def _still(cls: Any) -> Any:
    from handlers.mixing.processor import without_videos

    return without_videos(cls)


MAKERS: dict[str, Callable[..., Made]] = {
    "llava": _llava,
    "llava_next": _llava_next,
    "idefics3": _idefics3,
    "internvl": _internvl,
    "paligemma": _paligemma,
    "gemma3": _gemma3,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "llava_onevision": _llava_onevision,
    "mllama": _mllama,
    "qwen2_audio": _qwen2_audio,
    "janus": _janus,
}
