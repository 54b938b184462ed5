"""What goes before a text, as the model's files or the operator say: ``query: ``, an instruction, or nothing."""

from __future__ import annotations

from handlers.encoding.layout import Layout
from handlers.types import EmbedRequest
from openai_compat.errors import InvalidRequest

# The names that models use for each side, the commonest first; those of sentence-transformers.
SIDES: dict[str, tuple[str, ...]] = {"query": ("query",), "document": ("document", "passage", "corpus")}


def prompt_for(request: EmbedRequest, layout: Layout) -> str:
    """``prompt_name``, else ``input_type``, else the mode, else the model's default. Raises ``InvalidRequest``.

    A side for which the model has no prompt gets none: such a model treats both sides alike.
    """
    if request.prompt_name is not None:
        return _named(request.prompt_name, layout)
    side = request.input_type or (request.mode if request.mode in SIDES else None)
    if side is None:
        return layout.prompts.get(layout.default_prompt or "", "")
    return next((layout.prompts[name] for name in SIDES[side] if name in layout.prompts), "")


def _named(name: str, layout: Layout) -> str:
    if name not in layout.prompts:
        known = ", ".join(layout.prompts) or "none"
        raise InvalidRequest(f"This model has no prompt '{name}'. Its prompts: {known}.", param="prompt_name")
    return layout.prompts[name]
