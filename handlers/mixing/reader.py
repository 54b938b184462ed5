"""What a model makes of pictures and sounds before its language model begins, for prompts that are run packed."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from handlers.decoding.embedded import Embedded

if TYPE_CHECKING:
    from torch import Tensor

KEPT_BYTES = 64 << 20
_PLAIN_MASK = 2


class MediaReader:
    """Runs the part of a model that sees or hears, and no more.

    What was made of media is kept for a while, since each turn of a chat sends the pictures of all turns before. Requests of
    different salts share none of it.
    """

    def __init__(self, model: Any, *, kept_bytes: int = KEPT_BYTES) -> None:
        self._model = model
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[bytes, tuple[Tensor, frozenset[int]]] = OrderedDict()

    def read(self, ids: tuple[int, ...], inputs: dict[str, Any], salt: str) -> Embedded:
        key = _key(inputs, salt)
        known = self._kept.get(key)
        if known is not None:
            self._kept.move_to_end(key)
            rows, stand_ins = known
            places = [place for place, number in enumerate(ids) if number in stand_ins]
            if len(places) == len(rows):
                return Embedded(places, rows)
        found = self._run(ids, inputs)
        self._keep(key, found.rows, frozenset(ids[place] for place in found.places))
        return found

    def _run(self, ids: tuple[int, ...], inputs: dict[str, Any]) -> Embedded:
        """Where the first layer's input is not the tokens' own, it is what was seen or heard."""
        import torch

        hidden = self._reached(ids, inputs).options["inputs_embeds"][0]
        row = torch.tensor([ids], dtype=torch.long, device=self._model.device)
        embed = self._model.get_input_embeddings()
        with torch.inference_mode():
            own = embed(row.where(row < embed.weight.shape[0], 0))[0]
            places = (hidden != own).any(-1).nonzero().flatten()
            return Embedded(places.tolist(), hidden[places].clone())

    def beside(self, ids: tuple[int, ...], inputs: dict[str, Any]) -> tuple[str, ...]:
        """What else the language model gets for such a prompt: masks, positions or states that the engine knows nothing of."""
        reached = self._reached(ids, inputs)
        return tuple(name for name, value in reached.options.items() if not _is_usual(name, value))

    def _reached(self, ids: tuple[int, ...], inputs: dict[str, Any]) -> _Reached:
        """Where the language model is about to begin. Raises ``ValueError`` where it does not."""
        import torch

        row = torch.tensor([ids], dtype=torch.long, device=self._model.device)
        hook = self._model.get_decoder().register_forward_pre_hook(_interrupt, with_kwargs=True)
        try:
            with torch.inference_mode():
                self._model(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False, **inputs)
        except _Reached as reached:
            return reached
        finally:
            hook.remove()
        raise ValueError("The language model was not reached.")

    def _keep(self, key: bytes, rows: Tensor, stand_ins: frozenset[int]) -> None:
        self._kept[key] = (rows, stand_ins)
        while sum(kept.nbytes for kept, _ in self._kept.values()) > self._kept_bytes:
            self._kept.popitem(last=False)


class _Reached(Exception):
    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options


def _interrupt(module: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Nothing behind this is wanted."""
    raise _Reached(options)


def _is_usual(name: str, value: Any) -> bool:
    """Whether an argument says nothing beyond the row itself."""
    if value is None or isinstance(value, bool | int | float | str):
        return True
    if name == "attention_mask":
        return getattr(value, "ndim", 0) == _PLAIN_MASK  # one of more dimensions says who sees whom
    return name in ("inputs_embeds", "past_key_values", "cache_position")


def _key(inputs: dict[str, Any], salt: str) -> bytes:
    import torch

    digest = blake2b(salt.encode(errors="replace"), digest_size=32)
    for name in sorted(inputs):
        value = inputs[name].contiguous().cpu()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.digest()
