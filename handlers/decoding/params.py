"""The effective parameters of one request's decoding: nothing is left open any more."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from handlers.types import TextRequest

GREEDY_BELOW = 1e-5


class TextConfig(Struct, frozen=True, kw_only=True):
    """How answers are decoded. ``max_tokens`` None means as many as the context holds; 0 for ``top_k`` is off.

    ``stop_ids`` end an answer and are not part of its text; ``keep`` is how many of the ``n`` decoded answers are returned.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = {}
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_ids: frozenset[int] = frozenset()
    max_tokens: int | None = None
    min_tokens: int = 0
    n: int = 1
    keep: int = 1
    logprobs: int | None = None
    echo: bool = False

    @property
    def greedy(self) -> bool:
        return self.temperature < GREEDY_BELOW

    @property
    def ranks(self) -> bool:
        """Whether more answers are decoded than returned, so that each needs a score."""
        return self.n > self.keep


class Defaults(Struct, frozen=True, kw_only=True):
    """The model's own wishes, from its ``generation_config.json``."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    eos_ids: frozenset[int] = frozenset()


class SamplingOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator may set as a model's defaults, in its ``options.sampling``."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=2)] | None = None


def effective(request: TextRequest, defaults: Defaults, extra_stops: tuple[str, ...] = ()) -> TextConfig:
    """The request's values (a mode's are among them by now), else the model's, else the API's defaults."""
    asked = request.sampling

    def pick(name: str) -> float:
        value = getattr(asked, name)
        return float(getattr(defaults, name) if value is None else value)

    return TextConfig(
        temperature=pick("temperature"),
        top_p=pick("top_p"),
        top_k=max(0, int(pick("top_k"))),
        min_p=pick("min_p"),
        presence_penalty=asked.presence_penalty or 0.0,
        frequency_penalty=asked.frequency_penalty or 0.0,
        repetition_penalty=pick("repetition_penalty"),
        logit_bias=asked.logit_bias,
        seed=asked.seed,
        stop=asked.stop + extra_stops,
        stop_ids=frozenset(asked.stop_token_ids) | (frozenset() if asked.ignore_eos else defaults.eos_ids),
        max_tokens=asked.max_tokens,
        min_tokens=asked.min_tokens or 0,
        n=max(asked.n, asked.best_of or asked.n),
        keep=asked.n,
        logprobs=asked.logprobs,
        echo=request.echo,
    )
