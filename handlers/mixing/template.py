"""Chat templates of models that see or hear: their messages may hold parts, and some take nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from handlers.chat_template import ChatTemplate
from handlers.mixing.media import MARK, mark
from handlers.template_abilities import Refusal, probe
from openai_compat.errors import APIError

_WORD = "zqzqzq"
_WRITTEN_DOWN = re.compile("[\"']type[\"']")


class MediaTemplate(ChatTemplate):
    """A template that is given texts with marks in them.

    Attributes:
        wants_parts: a message's content has to be a list of parts, since a plain text would be left out.
        places: media that it writes placeholders for itself; marks of others stay in the text.
    """

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        self.wants_parts = False
        self.places: frozenset[str] = frozenset()
        super().__init__(source, tokens)
        self.wants_parts = _WORD not in self._shown(_WORD)
        self.places = frozenset(medium for medium in ("image", "audio") if self._places(medium))
        self.abilities = probe(self.render)

    def render(
        self, messages: list[dict[str, Any]], options: Mapping[str, Any], tools: list[dict[str, Any]] | None = None
    ) -> str:
        return super().render([self._with_parts(message) for message in messages], options, tools)

    def _with_parts(self, message: dict[str, Any]) -> dict[str, Any]:
        content = message.get("content")
        if not isinstance(content, str):
            return message
        parts = self._parts(content)
        plain = not self.wants_parts and all(part["type"] == "text" for part in parts)
        return message if plain else {**message, "content": parts}

    def _parts(self, content: str) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        words = ""
        for i, piece in enumerate(MARK.split(content)):
            if i % 2 == 0:
                words += piece
            elif piece in self.places:
                parts += [*_text(words), {"type": piece}]
                words = ""
            else:
                words += mark(piece)
        return parts + _text(words)

    def _places(self, medium: str) -> bool:
        """Whether a part of this kind leaves something in the prompt, and the words beside it too.

        A template that knows nothing of parts writes them down as they are.
        """
        part = {"type": medium}
        bare = self._shown([{"type": "text", "text": _WORD}])
        beside = self._shown([part, {"type": "text", "text": _WORD}])
        return _WORD in beside and len(beside) > len(bare) and not _WRITTEN_DOWN.search(bare)

    def _shown(self, content: Any) -> str:
        try:
            return super().render([{"role": "user", "content": content}], {})
        except (Refusal, APIError):
            return ""


def _text(words: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": words}] if words else []
