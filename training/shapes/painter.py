"""The painter: a ``StableDiffusionPipeline`` in small, its autoencoder, text encoder and UNet trained from nothing."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np

from training.shapes.data import singles
from training.shapes.learning import Average, Log, count, descend, floats
from training.shapes.saving import single_precision, without_origin
from training.shapes.scenes import PAINTED, SIZE, Scene, combinations
from training.shapes.words import MAX_TOKENS, make_tokenizer, worded

PICTURES = 23000
BATCH = 32
FACTOR = 4  # pixels a side for one latent
CHANNELS = 4
WIDTH = 64  # of the text encoder
UNNAMED = 0.1  # share of captions left empty, for the guidance
# What a user gets who asks for nothing else; read by the server's handler. Guidance as strong as is usual ruins these pictures.
DEFAULTS = {"guidance_scale": 2.0, "num_inference_steps": 25, "height": SIZE, "width": SIZE}


def train(out: Path, seed: int, log: Log, *, resume: bool = False, steps: tuple[int, int] = (1600, 5000)) -> None:
    """Train the autoencoder and then the painter, with ``steps`` of each; ``out`` gets the pipeline every 500 steps.

    To resume is to learn on from what ``out`` holds, with the autoencoder as it is.
    """
    import torch

    torch.manual_seed(seed)
    scenes, pictures = _data(seed)
    pipeline = _begun(out, log) if resume else _assemble(_train_vae(pictures, steps[0], seed, log))
    latents = _encode(pipeline.vae, pictures)
    deviation = float(latents.std())
    pipeline.vae.register_to_config(scaling_factor=1 / deviation)
    log(f"painter: {len(scenes)} latents, mean {float(latents.mean()):.3f}, deviation {deviation:.3f}")
    _train_unet(pipeline, latents / deviation, scenes, steps[1], seed, out, log)


def _begun(out: Path, log: Log) -> Any:
    """What an earlier training left, its own vocabulary with it."""
    from diffusers import StableDiffusionPipeline

    log(f"painter: goes on with what {out.name} holds")
    return StableDiffusionPipeline.from_pretrained(out)


def _assemble(vae: Any) -> Any:
    """A pipeline around the trained autoencoder."""
    from diffusers import StableDiffusionPipeline

    tokenizer = make_tokenizer()
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=make_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=make_unet(),
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _data(seed: int) -> tuple[list[Scene], Any]:
    import torch

    made = singles(seed, PICTURES, combinations("train"), PAINTED)
    pictures = torch.from_numpy(np.stack([picture for _, picture in made])).permute(0, 3, 1, 2).contiguous()
    return [scene for scene, _ in made], pictures


def make_vae() -> Any:
    """One group in every normalisation: with one channel a group, flat colours would be normalised away."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(16, 32, 48),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=1,
        mid_block_add_attention=False,
        sample_size=SIZE,
    )


def _train_vae(pictures: Any, steps: int, seed: int, log: Log) -> Any:
    import torch

    vae = make_vae()
    log(f"autoencoder: {count(vae)} parameters, {steps} steps of 16 pictures, seed {seed}")
    average = Average(vae, 0.995)
    draws = torch.Generator().manual_seed(seed)

    def loss() -> Any:
        wanted = floats(pictures[torch.randint(len(pictures), (16,), generator=draws)])
        latent = vae.encode(wanted).latent_dist
        off = vae.decode(latent.sample(draws)).sample - wanted
        return off.abs().mean() + off.square().mean() + 2e-4 * latent.kl().mean() / latent.mean[0].numel()

    for _ in descend(vae.parameters(), steps, 2e-3, loss, log, "autoencoder"):
        average.follow(vae)
    return average.model


def _encode(vae: Any, pictures: Any) -> Any:
    import torch

    with torch.no_grad():
        return torch.cat([vae.encode(floats(part)).latent_dist.mean for part in pictures.split(64)])


def make_scheduler() -> Any:
    """Noise alone at the last step, and a model of velocities, so that the background's colour can be learnt at all."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,  # has no effect with this spacing; the pipeline warns of others
    )


def make_unet() -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIZE // FACTOR,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=(32, 64, 96),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
    )


def make_text_encoder(tokenizer: Any) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _train_unet(pipeline: Any, latents: Any, scenes: list[Scene], steps: int, seed: int, out: Path, log: Log) -> None:
    import torch

    tokenizer, scheduler = pipeline.tokenizer, pipeline.scheduler
    model = torch.nn.ModuleDict({"unet": pipeline.unet, "text": pipeline.text_encoder}).train()
    log(f"painter: {count(model['unet'])} + {count(model['text'])} parameters, {steps} steps of {BATCH} latents, seed {seed}")
    average = Average(model, 0.999)
    rng = np.random.default_rng(seed)

    def loss() -> Any:
        chosen = rng.integers(len(scenes), size=BATCH)
        captions = ["" if rng.random() < UNNAMED else worded(scenes[index], rng) for index in chosen]
        words = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        clean = latents[torch.from_numpy(chosen)]
        noise, times = torch.randn_like(clean), torch.randint(0, 1000, (BATCH,))
        noisy = scheduler.add_noise(clean, noise, times)
        guess = model["unet"](noisy, times, model["text"](words).last_hidden_state).sample
        return torch.nn.functional.mse_loss(guess, scheduler.get_velocity(clean, noise, times))

    for step in descend(model.parameters(), steps, 1e-3, loss, log, "painter"):
        average.follow(model)
        if step % 500 == 0:
            save(out, pipeline, average.model)


def save(out: Path, pipeline: Any, model: Any) -> None:
    """Write the pipeline with the weights of ``model`` in half precision; they load in single precision where nothing else is
    asked for."""
    parts = {"vae": pipeline.vae, "text_encoder": model["text"], "unet": model["unet"]}
    halves = {name: copy.deepcopy(part).half() for name, part in parts.items()}
    type(pipeline)(**{**pipeline.components, **halves}, requires_safety_checker=False).save_pretrained(out)
    single_precision(out / "text_encoder")
    without_origin(out / "unet")
    without_origin(out / "vae")
    (out / "generation_config.json").write_text(json.dumps(DEFAULTS, indent=2) + "\n")
