"""Tiny pipelines of many families with random weights, saved as their real ones are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handlers import types as t
from handlers.diffusion import DiffusionHandler

Loader = Callable[..., DiffusionHandler]
Builder = Callable[[], Any]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = 200
"""Entries of every text encoder's vocabulary: more than any tokenizer here has."""


# ---------------------------------------------------------------- parts


def clip_words(length: int = 77) -> Any:
    from transformers import CLIPTokenizer

    names = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS), "!</w>"]
    return CLIPTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[], model_max_length=length)


def t5_words(length: int = 64) -> Any:
    from transformers import T5Tokenizer

    names = [*((name, 0.0) for name in ("<pad>", "</s>", "<unk>")), *((name, -1.0) for name in ("\u2581", *LETTERS))]
    return T5Tokenizer(vocab=names, extra_ids=0, model_max_length=length)


def clip_text(width: int = 32, *, projected: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=WORDS, hidden_size=width, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        bos_token_id=0, eos_token_id=1, pad_token_id=1, projection_dim=32, initializer_range=0.4,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def t5_text(width: int = 32) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(vocab_size=WORDS, d_model=width, d_ff=32, d_kv=8, num_heads=4, num_layers=1))


def clip_vision(width: int = 32, side: int = 32) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=width, intermediate_size=37, num_hidden_layers=1, num_attention_heads=4, image_size=side,
        patch_size=side // 4, projection_dim=width,
    )  # fmt: skip
    return CLIPVisionModelWithProjection(config)


def clip_pictures() -> Any:
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def vae(channels: int = 4, **changes: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16), in_channels=3, out_channels=3, norm_num_groups=4, latent_channels=channels,
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2, sample_size=32, **changes,
    )  # fmt: skip


def unet(channels: int = 4, sample: int = 16, **changes: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**{
        "block_out_channels": (16, 32), "layers_per_block": 1, "sample_size": sample, "in_channels": channels,
        "out_channels": 4, "norm_num_groups": 4, "cross_attention_dim": 32, "attention_head_dim": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        **changes,
    })  # fmt: skip


def ddim() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1)


# ---------------------------------------------------------------- pictures


def stable_diffusion(**changes: Any) -> Any:
    from diffusers import StableDiffusionPipeline

    parts = {
        "unet": unet(), "scheduler": ddim(), "vae": vae(), "text_encoder": clip_text(), "tokenizer": clip_words(),
        "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False,
    }  # fmt: skip
    return StableDiffusionPipeline(**{**parts, **changes})


def inpainter() -> Any:
    """A denoiser that reads mask and covered picture."""
    from diffusers import StableDiffusionInpaintPipeline

    return StableDiffusionInpaintPipeline(
        unet=unet(9), scheduler=ddim(), vae=vae(), text_encoder=clip_text(), tokenizer=clip_words(), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def latent_consistency() -> Any:
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler

    return LatentConsistencyModelPipeline(
        unet=unet(time_cond_proj_dim=32), scheduler=LCMScheduler(beta_schedule="scaled_linear"), vae=vae(),
        text_encoder=clip_text(), tokenizer=clip_words(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip


def stable_diffusion_xl() -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    denoiser = unet(
        cross_attention_dim=64, attention_head_dim=(2, 4), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, transformer_layers_per_block=(1, 2), projection_class_embeddings_input_dim=80,
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        unet=denoiser, scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear", timestep_spacing="leading"), vae=vae(),
        text_encoder=clip_text(), text_encoder_2=clip_text(projected=True), tokenizer=clip_words(), tokenizer_2=clip_words(),
    )  # fmt: skip


def stable_diffusion_3() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    denoiser = SD3Transformer2DModel(
        sample_size=16, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=4,
        caption_projection_dim=32, joint_attention_dim=32, pooled_projection_dim=64, out_channels=4, pos_embed_max_size=40,
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=denoiser, scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae(shift_factor=0.06, scaling_factor=1.5),
        text_encoder=clip_text(projected=True), text_encoder_2=clip_text(projected=True), text_encoder_3=t5_text(),
        tokenizer=clip_words(), tokenizer_2=clip_words(), tokenizer_3=t5_words(),
    )  # fmt: skip


def flux() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    denoiser = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=[4, 4, 8],
    )  # fmt: skip
    return FluxPipeline(
        transformer=denoiser, scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(1, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5),
        text_encoder=clip_text(), text_encoder_2=t5_text(), tokenizer=clip_words(), tokenizer_2=t5_words(),
    )  # fmt: skip


def pixart() -> Any:
    from diffusers import PixArtAlphaPipeline, PixArtTransformer2DModel

    denoiser = PixArtTransformer2DModel(
        sample_size=16, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=3, caption_channels=32,
        in_channels=4, cross_attention_dim=24, out_channels=8, attention_bias=True, activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000, norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6,
    )  # fmt: skip
    return PixArtAlphaPipeline(transformer=denoiser, scheduler=ddim(), vae=vae(), text_encoder=t5_text(), tokenizer=t5_words())


def image_variation() -> Any:
    from diffusers import StableDiffusionImageVariationPipeline

    return StableDiffusionImageVariationPipeline(
        unet=unet(), scheduler=ddim(), vae=vae(), image_encoder=clip_vision(), feature_extractor=clip_pictures(),
        safety_checker=None, requires_safety_checker=False,
    )  # fmt: skip


def unconditional() -> Any:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    denoiser = UNet2DModel(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, sample_size=16, in_channels=3, out_channels=3,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return DDPMPipeline(denoiser, DDPMScheduler())


# ---------------------------------------------------------------- videos


def text_to_video_sd() -> Any:
    from diffusers import TextToVideoSDPipeline, UNet3DConditionModel

    denoiser = UNet3DConditionModel(
        block_out_channels=(8, 8), layers_per_block=1, sample_size=16, in_channels=4, out_channels=4, norm_num_groups=2,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=32, attention_head_dim=4,
    )  # fmt: skip
    return TextToVideoSDPipeline(
        unet=denoiser, scheduler=ddim(), vae=vae(), text_encoder=clip_text(), tokenizer=clip_words()
    )  # fmt: skip


def stable_video() -> Any:
    from diffusers import (
        AutoencoderKLTemporalDecoder,
        EulerDiscreteScheduler,
        StableVideoDiffusionPipeline,
        UNetSpatioTemporalConditionModel,
    )

    denoiser = UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, sample_size=16, in_channels=8, out_channels=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), cross_attention_dim=32,
        num_attention_heads=8, projection_class_embeddings_input_dim=96, addition_time_embed_dim=32, num_frames=3,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        beta_schedule="scaled_linear", interpolation_type="linear", prediction_type="v_prediction", sigma_max=700.0,
        sigma_min=0.002, steps_offset=1, timestep_spacing="leading", timestep_type="continuous", use_karras_sigmas=True,
    )  # fmt: skip
    decoder = AutoencoderKLTemporalDecoder(
        block_out_channels=[32, 32], in_channels=3, out_channels=3, down_block_types=["DownEncoderBlock2D"] * 2,
        latent_channels=4,
    )  # fmt: skip
    return StableVideoDiffusionPipeline(
        vae=decoder, image_encoder=clip_vision(side=224), unet=denoiser, scheduler=scheduler, feature_extractor=clip_pictures()
    )


def ltx() -> Any:
    from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXPipeline, LTXVideoTransformer3DModel

    denoiser = LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, patch_size=1, patch_size_t=1, num_attention_heads=4, attention_head_dim=8,
        cross_attention_dim=32, num_layers=1, caption_channels=32,
    )  # fmt: skip
    decoder = AutoencoderKLLTXVideo(
        in_channels=3, out_channels=3, latent_channels=8, block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8), layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False), decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False, False, False, False, False), upsample_residual=(False, False, False, False),
        upsample_factor=(1, 1, 1, 1), timestep_conditioning=False, patch_size=1, patch_size_t=1, encoder_causal=True,
        decoder_causal=False,
    )  # fmt: skip
    decoder.use_framewise_encoding = decoder.use_framewise_decoding = False
    return LTXPipeline(
        transformer=denoiser, vae=decoder, scheduler=FlowMatchEulerDiscreteScheduler(), text_encoder=t5_text(),
        tokenizer=t5_words(128),
    )  # fmt: skip


def wan() -> Any:
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    denoiser = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=16, out_channels=16, text_dim=32,
        freq_dim=32, ffn_dim=16, num_layers=1, cross_attn_norm=True, qk_norm="rms_norm_across_heads", rope_max_seq_len=32,
    )  # fmt: skip
    decoder = AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    reader = UMT5EncoderModel(UMT5Config(vocab_size=WORDS, d_model=32, d_ff=32, d_kv=8, num_heads=4, num_layers=1))
    return WanPipeline(
        transformer=denoiser, vae=decoder, scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0), text_encoder=reader,
        tokenizer=t5_words(),
    )  # fmt: skip


# ---------------------------------------------------------------- pictures from pictures


def controlled() -> Any:
    """A control picture goes with the prompt."""
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

    denoiser = unet()
    control = ControlNetModel.from_unet(denoiser, conditioning_embedding_out_channels=(8, 8))
    for parameter in control.parameters():
        if not parameter.any():
            parameter.data.normal_(std=0.1)  # it begins without any influence
    return StableDiffusionControlNetPipeline(
        unet=denoiser, controlnet=control, scheduler=ddim(), vae=vae(), text_encoder=clip_text(), tokenizer=clip_words(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def instructed() -> Any:
    """A denoiser that reads the picture beside the latents."""
    from diffusers import StableDiffusionInstructPix2PixPipeline

    return StableDiffusionInstructPix2PixPipeline(
        unet=unet(8), scheduler=ddim(), vae=vae(), text_encoder=clip_text(), tokenizer=clip_words(), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def enlarging() -> Any:
    from diffusers import DDPMScheduler, StableDiffusionUpscalePipeline

    denoiser = unet(7, num_class_embeds=1000, use_linear_projection=True, only_cross_attention=(True, False))
    return StableDiffusionUpscalePipeline(
        unet=denoiser, low_res_scheduler=DDPMScheduler(), scheduler=ddim(), vae=vae(scaling_factor=0.08333),
        text_encoder=clip_text(), tokenizer=clip_words(), max_noise_level=350,
    )  # fmt: skip


def of_classes() -> Any:
    from diffusers import DiTPipeline, DiTTransformer2DModel

    denoiser = DiTTransformer2DModel(
        sample_size=16, num_layers=1, patch_size=4, attention_head_dim=8, num_attention_heads=2, in_channels=4, out_channels=8,
        attention_bias=True, activation_fn="gelu-approximate", num_embeds_ada_norm=1000, norm_type="ada_norm_zero",
        norm_elementwise_affine=False,
    )  # fmt: skip
    return DiTPipeline(denoiser, vae(), ddim())


def sana() -> Any:
    from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler, SanaPipeline, SanaTransformer2DModel
    from transformers import Gemma2Config, Gemma2Model

    denoiser = SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=4,
        num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=8, sample_size=8,
    )  # fmt: skip
    decoder = AutoencoderDC(
        in_channels=3, latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=[1, 1], downsample_block_type="conv", upsample_block_type="interpolate",
        decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.41407,
    )  # fmt: skip
    reader = Gemma2Model(
        Gemma2Config(
            head_dim=16, hidden_size=8, intermediate_size=64, num_attention_heads=2, num_hidden_layers=1, num_key_value_heads=2,
            vocab_size=WORDS,
        )
    )  # fmt: skip
    return SanaPipeline(
        transformer=denoiser, vae=decoder, scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0), text_encoder=reader,
        tokenizer=t5_words(),
    )  # fmt: skip


def kandinsky() -> Any:
    """Two stages: a prior makes the embedding of a picture, a decoder the picture."""
    from diffusers import DDPMScheduler, KandinskyV22CombinedPipeline, PriorTransformer, UnCLIPScheduler, VQModel

    denoiser = unet(
        out_channels=8, addition_embed_type="image", encoder_hid_dim=32, encoder_hid_dim_type="image_proj",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"), resnet_time_scale_shift="scale_shift",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), mid_block_type="UNetMidBlock2DSimpleCrossAttn",
    )  # fmt: skip
    decoder = VQModel(
        block_out_channels=(32, 32), in_channels=3, out_channels=3, latent_channels=4, layers_per_block=1, norm_num_groups=4,
        norm_type="spatial", num_vq_embeddings=12, vq_embed_dim=4,
        down_block_types=["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
        up_block_types=["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
    )  # fmt: skip
    return KandinskyV22CombinedPipeline(
        unet=denoiser, scheduler=DDPMScheduler(beta_schedule="linear", clip_sample=False), movq=decoder,
        prior_prior=PriorTransformer(num_attention_heads=2, attention_head_dim=12, embedding_dim=32, num_layers=1),
        prior_image_encoder=clip_vision(), prior_text_encoder=clip_text(projected=True), prior_tokenizer=clip_words(),
        prior_scheduler=UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample", clip_sample=True),
        prior_image_processor=clip_pictures(),
    )  # fmt: skip


# ---------------------------------------------------------------- more videos


def animated() -> Any:
    from diffusers import AnimateDiffPipeline, MotionAdapter

    adapter = MotionAdapter(
        block_out_channels=(16, 32), motion_layers_per_block=1, motion_norm_num_groups=4, motion_num_attention_heads=4,
        motion_max_seq_length=8,
    )  # fmt: skip
    return AnimateDiffPipeline(
        unet=unet(), motion_adapter=adapter, scheduler=ddim(), vae=vae(), text_encoder=clip_text(), tokenizer=clip_words()
    )


def cogvideo() -> Any:
    from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline, CogVideoXTransformer3DModel

    denoiser = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=2, text_embed_dim=32,
        num_layers=1, sample_width=8, sample_height=8, sample_frames=9, patch_size=2, temporal_compression_ratio=4,
        max_text_seq_length=226,
    )  # fmt: skip
    decoder = AutoencoderKLCogVideoX(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1,
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4, norm_num_groups=2,
        temporal_compression_ratio=4,
        sample_height=16, sample_width=16,
    )  # fmt: skip
    return CogVideoXPipeline(
        transformer=denoiser, vae=decoder, scheduler=ddim(), text_encoder=t5_text(), tokenizer=t5_words(226)
    )


SIZES = {"flux": (32, 32), "kandinsky": (32, 32), "ltx": (32, 32), "sana": (32, 32), "stable_video": (32, 32), "wan": (32, 32)}
"""Families whose pipelines have a large usual size of their own: what the model's ``generation_config.json`` says instead."""
BUILDERS: dict[str, Builder] = {
    builder.__name__: builder
    for builder in (
        stable_diffusion, inpainter, latent_consistency, stable_diffusion_xl, stable_diffusion_3, flux, pixart,
        image_variation, unconditional, text_to_video_sd, stable_video, ltx, wan, controlled, instructed,
        enlarging, of_classes, sana, kandinsky, animated, cogvideo,
    )
}  # fmt: skip


def save(name: str, folder: Path) -> Path:
    import torch
    from diffusers.utils.logging import disable_progress_bar

    disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BUILDERS[name]().save_pretrained(folder)
    if name == "of_classes":
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(
            json.dumps({**index, "id2label": {"1": "goldfish", "2": "white shark, shark"}})
        )
    if name in SIZES:
        own = dict(zip(("width", "height"), SIZES[name], strict=True))
        (folder / "generation_config.json").write_text(json.dumps(own))
    return folder


def load(folder: Path, **changes: Any) -> DiffusionHandler:
    spec = t.ModelSpec(id="tiny", path=str(folder), kind="diffusion", **{"device": "cpu", "threads": 1, **changes})
    handler = DiffusionHandler(spec)
    handler.load_model(lambda stage, done=0, total=0: None)
    return handler


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny pipeline, made on first use."""
    made: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in made:
            made[name] = save(name, tmp_path_factory.mktemp(name))
        return made[name]

    return find


@pytest.fixture(scope="session")
def loader() -> Loader:
    return load
