"""`/v1/embeddings`: request and answer."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.common import Label, Mode, ModelName, Name, TokenCount, TokenId
from schemas.messages import ImageUrl

MAX_INPUTS = 2048
MAX_IDS = 131_072

Text = Annotated[str, Meta(max_length=1_000_000)]
TokenIds = Annotated[list[TokenId], Meta(max_length=MAX_IDS)]
InputType = Literal["query", "document", "passage", "search_query", "search_document"]


class InputPart(Struct, frozen=True, kw_only=True):
    """A text or a picture, in the shape that a chat's content parts have."""

    type: Literal["text", "image_url"] | None = None
    text: Text | None = None
    image_url: ImageUrl | str | None = None


class InputItem(InputPart, frozen=True, kw_only=True):
    """A text, a picture, or with ``content`` a text and a picture that get one vector together."""

    content: Annotated[list[InputPart], Meta(max_length=2)] | None = None


Inputs = Annotated[list[Text | TokenId | TokenIds | InputItem], Meta(max_length=MAX_IDS)]


class EmbeddingRequest(Struct, frozen=True, kw_only=True):
    """``input`` is a text, texts, token ids, or lists of token ids; beyond OpenAI's, items with pictures.

    The second group of fields is ours.
    """

    model: ModelName
    input: Text | Inputs | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: TokenCount | None = None
    user: Label | None = None

    input_type: InputType | None = None
    prompt_name: Name | None = None
    truncate: bool | None = None
    mode: Mode | None = None


class Embedding(Struct, frozen=True, kw_only=True):
    """``embedding`` is numbers, or base64 of them as little-endian float32."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingUsage(Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Struct, frozen=True, kw_only=True):
    """``data`` is in the order of the inputs."""

    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    object: Literal["list"] = "list"
