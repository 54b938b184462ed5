"""What schedulers foresee, and when it is shown."""

from __future__ import annotations

from typing import Any

import pytest

from handlers.painting.previews import due_steps, predictions

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # torch's, of numpy's interface


def forecasts(scheduler: Any, steps: int = 4) -> tuple[list[Any], Any]:
    """Each step's forecast where the network is always right about a picture, and the picture."""
    import torch

    scheduler.set_timesteps(steps)
    picture = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    noise = torch.full_like(picture, 0.5)
    flows = type(scheduler).__name__.startswith("Flow")
    sample = noise if flows else scheduler.add_noise(picture, noise, scheduler.timesteps[:1])
    kept: list[Any] = []
    with predictions(scheduler, kept.append):
        for timestep in scheduler.timesteps:
            if not flows:
                scheduler.scale_model_input(sample, timestep)
            output = noise - picture if flows else noise
            sample = scheduler.step(output, timestep, sample, return_dict=False)[0]
    return kept, picture


@pytest.mark.parametrize(
    ("name", "settings"),
    {
        "DDIMScheduler": {"clip_sample": False},
        "DDPMScheduler": {"clip_sample": False},
        "EulerDiscreteScheduler": {},
        "EulerAncestralDiscreteScheduler": {},
        "DPMSolverMultistepScheduler": {},
        "UniPCMultistepScheduler": {},
        "FlowMatchEulerDiscreteScheduler": {},
    }.items(),
)
def test_a_network_that_is_right_is_foreseen_from_the_first_step(name: str, settings: dict[str, bool]) -> None:
    import diffusers
    import torch

    scheduler = getattr(diffusers, name)(**settings)
    kept, picture = forecasts(scheduler)
    assert len(kept) == 4
    torch.testing.assert_close(kept[0], picture, rtol=1e-3, atol=1e-2)
    assert "step" not in vars(scheduler)


def test_a_scheduler_that_does_not_say_foresees_nothing() -> None:
    from diffusers import PNDMScheduler

    kept, _ = forecasts(PNDMScheduler(skip_prk_steps=True))
    assert set(kept) == {None}


@pytest.mark.parametrize(
    ("partials", "steps", "shown"),
    [(3, 20, {5: 0, 10: 1, 15: 2}), (1, 3, {2: 0}), (3, 2, {1: 0}), (2, 1, {}), (0, 20, {})],
)
def test_partial_pictures_are_spaced_evenly_and_the_last_step_shows_none(partials, steps, shown) -> None:
    assert due_steps(partials, steps) == shown
