"""A loaded checkpoint with what every request to it needs: pipelines, sizes, the operator's options, the model's defaults."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from handlers import types as t
from handlers.analyze import read_json
from handlers.painting.calls import STEPS, Call
from handlers.painting.estimate import GENERATION
from handlers.painting.memory import Placement
from handlers.painting.options import Options
from handlers.painting.pipes import Pipes
from handlers.painting.prompts import check_length
from handlers.painting.sizes import Sizes, sizes_of
from openai_compat.errors import InvalidRequest, UnsupportedParameter

MOST_SEED = 2**63
QUALITY = {"low": 0.5, "medium": 1.0, "high": 1.5}


class Studio:
    """Used by one thread. Raises ``BadHeader`` on construction for files that cannot be read."""

    def __init__(self, pipeline: Any, spec: t.ModelSpec, options: Options, placement: Placement) -> None:
        self.pipes = Pipes(pipeline, spec.id)
        self.placement = placement
        self.id, self.options = spec.id, options
        self._root = Path(spec.path)
        self._own = read_json(self._root / GENERATION)
        self._sizes: dict[str, Sizes] = {}

    def sizes(self, pipeline: Any, call: Call) -> Sizes:
        name = type(pipeline).__name__
        if name not in self._sizes:
            self._sizes[name] = sizes_of(pipeline, call, self._root, self.options.sizes)
        return self._sizes[name]

    def steps(self, call: Call, asked: int | None, quality: str | None = None) -> int | None:
        """The request's, else the operator's, the model's or the pipeline's, times what the quality says; None: its own."""
        if asked is not None:
            return asked
        usual = self.options.steps or _whole(self._own.get(STEPS)) or _whole(call.default(STEPS))
        if usual is None or not call.takes(STEPS):
            return None
        return min(max(1, round(usual * QUALITY[quality or "medium"])), self.options.max_steps)

    def guidance(self, call: Call, asked: float | None) -> float | None:
        """As ``steps``; None is the pipeline's own."""
        if asked is not None or call.guidance is None:
            return asked
        own = self._own.get("guidance_scale")
        if self.options.guidance is not None:
            return self.options.guidance
        return float(own) if isinstance(own, int | float) and not isinstance(own, bool) and 0 <= own <= 100 else None

    def check_words(self, pipeline: Any, call: Call, request: t.ImageRequest | t.VideoRequest) -> None:
        """Raises ``InvalidRequest`` for settings that the pipeline does not have, and for texts that it cannot read."""
        self._check_settings(call, request)
        if self.options.truncate:
            return
        check_length(pipeline, call, request.prompt, "prompt")
        if request.negative_prompt is not None:
            check_length(pipeline, call, request.negative_prompt, "negative_prompt")

    def _check_settings(self, call: Call, request: t.ImageRequest | t.VideoRequest) -> None:
        has = {
            "negative_prompt": call.unwanted,
            "steps": call.takes(STEPS),
            "guidance": call.guidance is not None,
            "strength": call.takes("strength"),
        }
        for name, taken in has.items():
            if getattr(request, name, None) is not None and not taken:
                raise UnsupportedParameter(f"Unsupported parameter: '{name}'. '{self.id}' has no such setting.", param=name)
        if request.steps is not None and not 1 <= request.steps <= self.options.max_steps:
            raise InvalidRequest(f"'{self.id}' takes 1 to {self.options.max_steps} steps.", param="steps")


def seed_of(asked: int | None) -> int:
    """The request's, else any."""
    return secrets.randbits(32) if asked is None else asked


def _whole(value: Any) -> int | None:
    return value if type(value) is int and 1 <= value <= 1000 else None
