"""Embeddings and rankings."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from handlers.types.facts import Usage
from handlers.types.pictures import Picture
from handlers.types.text import Prompt


class EmbedRequest(Struct, frozen=True, kw_only=True):
    """``texts`` or ``images``, or both pairwise for a joint embedding.

    ``input_type`` and ``prompt_name`` choose what the model's files say goes before a text; the name wins. ``truncate``: cut
    what is too long instead of refusing it.
    """

    texts: tuple[Prompt, ...] = ()
    images: tuple[Picture, ...] = ()
    dimensions: int | None = None
    input_type: Literal["query", "document"] | None = None
    prompt_name: str | None = None
    truncate: bool | None = None
    mode: str | None = None


class RankRequest(Struct, frozen=True, kw_only=True):
    """How well does each document answer the query? ``truncate``: cut what is too long instead of refusing it."""

    query: str
    documents: tuple[str, ...]
    truncate: bool | None = None
    mode: str | None = None


class EmbedResult(Struct, frozen=True, kw_only=True):
    """One vector an input, in input order: its float32 numbers as little-endian bytes, as they go to the wire."""

    vectors: tuple[bytes, ...]
    usage: Usage = Usage()


class RankResult(Struct, frozen=True, kw_only=True):
    """One relevance a document, in input order; the higher the better, from 0 to 1."""

    scores: tuple[float, ...]
    usage: Usage = Usage()
