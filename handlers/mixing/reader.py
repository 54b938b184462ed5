"""What a model makes of pictures and sounds before its language model begins, for prompts that are run packed."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from handlers.decoding.embedded import Embedded

if TYPE_CHECKING:
    from torch import Tensor

KEPT_BYTES = 64 << 20


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

        row = torch.tensor([ids], dtype=torch.long, device=self._model.device)
        embed = self._model.get_input_embeddings()
        hook = self._model.get_decoder().register_forward_pre_hook(_interrupt, with_kwargs=True)
        try:
            with torch.inference_mode():
                self._model(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False, **inputs)
                raise ValueError("The language model was not reached.")
        except _Reached as reached:
            hidden = reached.hidden[0]
        finally:
            hook.remove()
        with torch.inference_mode():
            own = embed(row.where(row < embed.weight.shape[0], 0))[0]
            places = (hidden != own).any(-1).nonzero().flatten()
            return Embedded(places.tolist(), hidden[places].clone())

    def _keep(self, key: bytes, rows: Tensor, stand_ins: frozenset[int]) -> None:
        self._kept[key] = (rows, stand_ins)
        while sum(kept.nbytes for kept, _ in self._kept.values()) > self._kept_bytes:
            self._kept.popitem(last=False)


class _Reached(Exception):
    def __init__(self, hidden: Any) -> None:
        self.hidden = hidden


def _interrupt(module: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """The language model is about to begin: nothing behind this is wanted. Raises ``KeyError`` where it is given no rows."""
    raise _Reached(options["inputs_embeds"])


def _key(inputs: dict[str, Any], salt: str) -> bytes:
    import torch

    digest = blake2b(salt.encode(errors="replace"), digest_size=32)
    for name in sorted(inputs):
        value = inputs[name].contiguous().cpu()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.digest()
