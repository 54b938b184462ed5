"""Which of a model's voices a request means: its own name for it, a name of OpenAI's, or one that the operator gave it."""

from __future__ import annotations

from collections.abc import Mapping

from openai_compat.errors import InvalidRequest, ModelUnavailable

OPENAI_VOICES = (
    "alloy",
    "ash",
    "ballad",
    "coral",
    "echo",
    "fable",
    "onyx",
    "nova",
    "sage",
    "shimmer",
    "verse",
    "marin",
    "cedar",
)
_SHOWN = 40


class Voices:
    """The voices of one model.

    OpenAI's names stand for the model's own voices in their order, over and over where it has fewer, unless ``told`` maps them.

    Args:
        own: the model's names, the first of which is the default.
        told: further names of them, as the configuration says.
        default: the voice of a request that names none, by any of its names.

    Raises:
        ModelUnavailable: the configuration names a voice that the model does not have.
    """

    def __init__(self, own: tuple[str, ...], told: Mapping[str, str], default: str | None = None) -> None:
        self._known = {name: own[i % len(own)] for i, name in enumerate(OPENAI_VOICES)} | {name: name for name in own}
        for name, target in told.items():
            if target not in own:
                raise ModelUnavailable(f"The voice '{name}' is mapped to '{target}', which this model does not have.")
        self._known |= told
        self.names = (*own, *(name for name in self._known if name not in own))
        if default is not None and default not in self._known:
            raise ModelUnavailable(f"The default voice '{default}' is not one of this model's.")
        self._default = own[0] if default is None else self._known[default]

    def find(self, name: str | None) -> str:
        """The model's own name. Raises ``InvalidRequest`` naming ``voice`` and those that there are."""
        if name is None:
            return self._default
        if name not in self._known:
            shown = ", ".join(self.names[:_SHOWN]) + (" …" if len(self.names) > _SHOWN else "")
            raise InvalidRequest(f"This model has no voice '{name}'. Its voices: {shown}.", param="voice")
        return self._known[name]
