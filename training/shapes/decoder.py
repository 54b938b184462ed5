"""The painter's decoder, learnt on while its latents stay as they are: sharper edges, and the rest of the painter untouched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from training.shapes.data import draw
from training.shapes.learning import Average, Log, as_batch, descend
from training.shapes.saving import without_origin
from training.shapes.scenes import PAINTED, combinations, single

BATCH = 16
# Of the latents' own deviation: the painter does not meet them exactly, either.
BLUR = 0.05


def train(out: Path, seed: int, log: Log, *, resume: bool = True, steps: int = 2500) -> None:
    """Train the decoder of the pipeline in ``out``, which has to be there, whether or not this is called to resume."""
    import torch
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    vae = AutoencoderKL.from_pretrained(out / "vae")
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    log(f"decoder: {steps} steps of {BATCH} pictures, seed {seed}")
    average = Average(vae, 0.995)
    rng = np.random.default_rng(seed)
    allowed = combinations("train")
    blur = BLUR / vae.config.scaling_factor

    def loss() -> Any:
        scenes = [single(rng, allowed[index], PAINTED) for index in rng.integers(len(allowed), size=BATCH)]
        wanted = as_batch([draw(scene, rng) for scene in scenes])
        with torch.no_grad():
            latents = vae.encode(wanted).latent_dist.mean
        off = vae.decode(latents + blur * torch.randn_like(latents)).sample - wanted
        return off.abs().mean() + off.square().mean()

    trained = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    for _ in descend(trained, steps, 1e-3, loss, log, "decoder"):
        average.follow(vae)
    average.model.half().save_pretrained(out / "vae")
    without_origin(out / "vae")
