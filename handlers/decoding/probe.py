"""Whether a model may be packed: tried at load, since a model that mixes its neighbours does so without an error.

Some models never call transformers' attention interface, or drop its arguments, or keep other state (convolutions, state space,
linear attention). Packed, they would answer one user with another's words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct

from handlers.decoding import attention
from handlers.decoding.attention import Softmax
from handlers.decoding.cache import KeyValueCache, LayerShape
from handlers.decoding.embedded import Embedded
from handlers.decoding.forward import Forward
from handlers.decoding.rotary import packs_up_to
from handlers.decoding.scheduler import Chunk
from handlers.decoding.sequence import Sequence
from openai_compat.errors import APIError

if TYPE_CHECKING:
    from torch import Tensor

_LAYERS = frozenset({"full_attention", "sliding_attention"})
_LONG, _SHORT = 40, 5
_BLOCK = 4
_MEDIA_BLOCK = 16
_LOOKED_AT = 32
_FAILURES = (TypeError, ValueError, RuntimeError, AttributeError, LookupError, NotImplementedError, APIError)
_TOLERANCE = 1e-4
_HALF_TOLERANCE = 5e-2


class Verdict(Struct, frozen=True, kw_only=True):
    """``reason`` says why a model may not be packed; else ``shapes`` and ``dtype`` say what its layers keep.

    ``plain``: no layer asks for more than the plain product. ``window``: the longest in tokens that a layer sees through, or 0.
    """

    reason: str | None = None
    shapes: dict[int, LayerShape] = {}
    dtype: Any = None
    plain: bool = False
    window: int = 0

    @property
    def tolerance(self) -> float:
        """By how much of their norm logits may differ that are computed in another order."""
        import torch

        return _TOLERANCE if self.dtype == torch.float32 else _HALF_TOLERANCE


class Trial(Struct, frozen=True, kw_only=True):
    """A prompt with a picture or sound in it: what the whole model is given, and what the engine would put in its place.

    ``beside`` names what the language model gets in addition.
    """

    ids: tuple[int, ...]
    inputs: dict[str, Any]
    embedded: Embedded
    beside: tuple[str, ...] = ()


def probe(model: Any, media: Iterable[Callable[[], Trial]] = (), context: int | None = None) -> Verdict:
    """Try it, and leave the model set for packed attention if it passes, as it was if not.

    Args:
        media: prompts to try, for a model that takes more than tokens.
        context: tokens of the longest sequence that it will be given; None: as many as it was made for.
    """
    import torch

    refusal = _refusal(model, context)
    if refusal is not None:
        return Verdict(reason=refusal)
    attending = _attending(model)
    before = attending.config._attn_implementation
    attention.register()
    with torch.inference_mode():
        try:
            verdict = _try(model)
            for trial in media:
                verdict = verdict if verdict.reason else _try_media(model, verdict, trial(), before)
        except _FAILURES as error:
            verdict = Verdict(reason=f"it cannot be run packed ({type(error).__name__})")
    if verdict.reason is not None:
        attending.set_attn_implementation(before)
    return verdict


def _attending(model: Any) -> Any:
    """The part of the model whose attention is replaced: what sees and hears keeps its own."""
    return model if model.config.get_text_config() is model.config else model.get_decoder()


def _refusal(model: Any, context: int | None) -> str | None:
    """What the configuration says already."""
    config = model.config.get_text_config()
    if model._is_stateful or config.is_encoder_decoder:
        return "it keeps other state than keys and values"
    if not set(getattr(config, "layer_types", None) or ()) <= _LAYERS:
        return "some of its layers are of another kind than attention"
    rotary = getattr(config, "rope_parameters", None) or {}
    if "mrope_section" in rotary:
        return "its positions have more than one dimension"
    most = packs_up_to(config.to_dict())
    if most is not None and (context or config.max_position_embeddings) > most:
        return f"prompts of more than {most} tokens change the positions of those beside them; shorter contexts can be packed"
    return None


def _try(model: Any) -> Verdict:
    import torch

    generator = torch.Generator().manual_seed(0)
    size = model.get_input_embeddings().weight.shape[0]
    prompts = [torch.randint(size, (length,), generator=generator).tolist() for length in (_LONG, _SHORT)]
    alone = [model(input_ids=_row(ids, model), use_cache=False).logits[0, -1].float() for ids in prompts]
    _attending(model).set_attn_implementation(attention.NAME)
    spy = _Spy()
    model(input_ids=_row(prompts[1], model), use_cache=False, paged=spy)
    if set(spy.shapes) != set(range(model.config.get_text_config().num_hidden_layers)):
        return Verdict(reason="not every layer is attention over the block table")
    cache = KeyValueCache(spy.shapes, blocks=2 * _LONG // _BLOCK, block_size=_BLOCK, dtype=spy.dtype, device=model.device)
    together = _packed(Forward(model, cache), [Tokens(0, prompts[0]), Tokens(1, prompts[1])])
    verdict = Verdict(shapes=spy.shapes, dtype=spy.dtype, plain=spy.plain, window=spy.window)
    if not all(alike(*pair, verdict.tolerance) for pair in zip(alone, together, strict=True)):
        return Verdict(reason="packed sequences differ from the same run apart")
    return verdict


def _try_media(model: Any, verdict: Verdict, trial: Trial, before: str) -> Verdict:
    """The same prompt whole, by the library, and in chunks of which one ends amid the picture.

    What the picture's first tokens say is compared too: sight in both directions shows there, and hardly at the prompt's end.
    """
    import torch

    if trial.beside:
        return Verdict(reason=f"pictures or sounds come with {', '.join(trial.beside)} of their own")
    ids, first = list(trial.ids), trial.embedded.places[0]
    seen = range(first, min(first + _LOOKED_AT, len(ids) - 1))
    row = _row(ids, model)
    _attending(model).set_attn_implementation(before)
    keep = {"logits_to_keep": torch.tensor([*seen, len(ids) - 1])} if model._supports_logits_to_keep() else {}
    output = model(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False, **keep, **trial.inputs)
    whole = (output.logits[0] if keep else output.logits[0, [*seen, len(ids) - 1]]).float()
    _attending(model).set_attn_implementation(attention.NAME)
    count = -(-len(ids) // _MEDIA_BLOCK)
    sizes = {"blocks": count, "block_size": _MEDIA_BLOCK}
    cache = KeyValueCache(verdict.shapes, dtype=verdict.dtype, device=model.device, **sizes)
    packed = _in_chunks(Forward(model, cache), Tokens(0, ids, trial.embedded, list(range(count, 0, -1))), seen)
    if alike(whole[:-1], packed[:-1], verdict.tolerance) and alike(whole[-1], packed[-1], verdict.tolerance):
        return verdict
    return Verdict(reason="pictures or sounds need more than the engine gives")


def _in_chunks(forward: Forward, tokens: Tokens, seen: range) -> Tensor:
    """The logits at the places ``seen``, which are a chunk of their own, and the last ones."""
    import torch

    rows: list[Tensor] = []
    cuts = sorted({0, seen.start, seen.stop, len(tokens.ids) - 1, len(tokens.ids)})
    for start, stop in pairwise(cuts):
        tokens.scoring = start == seen.start
        found = forward.run([Chunk(cast(Sequence, tokens), start, stop - start)])
        if tokens.scoring or stop == len(tokens.ids):
            rows.append(found.rows)
    return torch.cat(rows)


class _Spy:
    """In place of a step's layout: notes what each layer keeps."""

    def __init__(self) -> None:
        self.shapes: dict[int, LayerShape] = {}
        self.dtype: Any = None
        self.plain = True
        self.window = 0

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None, softmax: Softmax) -> Tensor:
        self.plain = self.plain and softmax.is_plain
        self.window = max(self.window, window or 0)
        self.shapes[layer] = LayerShape(key.shape[0], key.shape[-1], value.shape[-1])
        self.dtype = key.dtype
        return query.new_zeros(query.shape[1], query.shape[0], value.shape[-1])


class Tokens:
    """As much of a sequence as the forward pass reads, in blocks that are not in order."""

    def __init__(self, order: int, ids: list[int], embedded: Embedded | None = None, blocks: list[int] | None = None) -> None:
        self.scoring = False
        self.order = order
        self.ids = ids
        self.embedded = embedded
        self.blocks = blocks or [1 + 2 * place + order for place in reversed(range(_LONG // _BLOCK))]


def _packed(forward: Forward, prompts: list[Tokens]) -> list[Tensor]:
    """The last logits of both, their prompts in chunks: both at once, one beside the other's next token, and that alone."""
    long, short = (cast(Sequence, tokens) for tokens in prompts)
    middle, last = _LONG // 2, _LONG - 1
    forward.run([Chunk(long, 0, middle), Chunk(short, 0, _SHORT - 1)])
    second = forward.run([Chunk(long, middle, last - middle), Chunk(short, _SHORT - 1, 1)])
    third = forward.run([Chunk(long, last, 1)])
    return [third.rows[third.of[0].start], second.rows[second.of[1].start]]


def _row(ids: list[int], model: Any) -> Tensor:
    import torch

    return torch.tensor([ids], device=model.device)


def alike(one: Tensor, other: Tensor, tolerance: float) -> bool:
    """Whether they differ by no more than a part of their norm."""
    return bool((one - other).norm() <= tolerance * one.norm())
