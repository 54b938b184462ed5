"""`/v1/embeddings`: wire ⇄ domain."""

from __future__ import annotations

from array import array
from base64 import b64encode
from collections.abc import Sequence
from sys import byteorder
from typing import Literal, NamedTuple

from handlers.types import EmbedRequest, EmbedResult, Prompt, Verb
from openai_compat.errors import InvalidRequest
from openai_compat.translate.attachments import (
    MAX_ATTACHMENTS,
    Attachment,
    Media,
    first_remote,
    picture_at,
    to_picture,
    url_of,
)
from openai_compat.translate.common import Facts
from schemas.embeddings import (
    MAX_INPUTS,
    Embedding,
    EmbeddingList,
    EmbeddingRequest,
    EmbeddingUsage,
    InputItem,
    InputPart,
    InputType,
)

MAX_CHARACTERS = 4_000_000
MAX_TOKENS = 1_000_000
_KINDS = "texts, token ids, lists of token ids, or items of one kind"

_INPUT_TYPES: dict[InputType, Literal["query", "document"]] = {
    "query": "query",
    "search_query": "query",
    "document": "document",
    "passage": "document",
    "search_document": "document",
}


class Items(NamedTuple):
    """What is to be embedded: texts, pictures, or as many of both, pairwise."""

    texts: tuple[Prompt, ...] = ()
    images: tuple[Attachment, ...] = ()

    @property
    def verb(self) -> Verb:
        if not self.images:
            return "embed_text"
        return "embed_multimodal" if self.texts else "embed_image"


# ---------------------------------------------------------------- request


def plan(body: EmbeddingRequest) -> Verb:
    """Make every check that needs no model. Raises ``InvalidRequest`` naming the field; returns the verb."""
    return to_items(body).verb


def remote(body: EmbeddingRequest) -> str | None:
    """The first field that has its picture on another server."""
    if not isinstance(body.input, list) or not body.input or not isinstance(body.input[0], InputItem):
        return None
    items = [(i, item) for i, item in enumerate(body.input) if isinstance(item, InputItem)]
    parts = ((i, part) for i, item in items for part in (item.content or (item,)))
    return first_remote((f"input[{i}].image_url", url_of(part.image_url)) for i, part in parts if part.image_url is not None)


def to_request(body: EmbeddingRequest, facts: Facts, items: Items, media: Media) -> EmbedRequest:
    """``items`` are the body's, ``media`` their pictures. The request's own mode wins over the one in the model's name."""
    return EmbedRequest(
        texts=items.texts,
        images=tuple(picture_at(media, image.param) for image in items.images),
        dimensions=body.dimensions,
        input_type=_INPUT_TYPES[body.input_type] if body.input_type else None,
        prompt_name=body.prompt_name,
        truncate=body.truncate,
        mode=body.mode or facts.mode,
    )


def to_items(body: EmbeddingRequest) -> Items:
    """Raises ``InvalidRequest`` for none, too many, empty ones, or a mixture."""
    given = body.input
    if given is None:
        raise InvalidRequest("Missing required parameter: 'input'.", param="input", code="missing_required_parameter")
    if isinstance(given, str):
        return _texts([given])
    if not given:
        raise InvalidRequest("'input' must not be an empty list.", param="input")
    if isinstance(given[0], int):
        return _ids([given])
    if len(given) > MAX_INPUTS:
        raise InvalidRequest(f"'input' has {len(given)} items; at most {MAX_INPUTS} are allowed.", param="input")
    if isinstance(given[0], InputItem):
        return _items(given)
    return _ids(given) if isinstance(given[0], list) else _texts(given)


def _texts(given: Sequence[object]) -> Items:
    texts = tuple(text for text in given if isinstance(text, str))
    _check_all(texts, given)
    if sum(map(len, texts)) > MAX_CHARACTERS:
        raise InvalidRequest(f"The texts of 'input' are longer than {MAX_CHARACTERS} characters together.", param="input")
    return Items(texts=texts)


def _ids(given: Sequence[object]) -> Items:
    ids = tuple(tuple(number for number in entry if isinstance(number, int)) for entry in given if isinstance(entry, list))
    _check_all(ids, given)
    if any(len(numbers) != len(entry) for numbers, entry in zip(ids, given, strict=True) if isinstance(entry, list)):
        raise InvalidRequest(f"'input' must be {_KINDS}.", param="input")
    if sum(map(len, ids)) > MAX_TOKENS:
        raise InvalidRequest(f"'input' has more than {MAX_TOKENS} token ids.", param="input")
    return Items(texts=ids)


def _items(given: Sequence[object]) -> Items:
    """Items of one kind: texts, pictures, or pairs of them."""
    items = [item for item in given if isinstance(item, InputItem)]
    _check_all(items, given)
    groups = [_parts(item, f"input[{i}]") for i, item in enumerate(items)]
    if len({frozenset(part.text is None for part in group) for group in groups}) > 1:
        raise InvalidRequest("The items of 'input' must all be texts, all pictures, or all pairs of them.", param="input")
    texts = [part.text for group in groups for part in group if part.text is not None]
    urls = [(i, part.image_url) for i, group in enumerate(groups) for part in group if part.image_url is not None]
    if len(urls) > MAX_ATTACHMENTS:
        raise InvalidRequest(f"'input' has {len(urls)} pictures; at most {MAX_ATTACHMENTS} are allowed.", param="input")
    images = tuple(to_picture(url, f"input[{i}].image_url") for i, url in urls)
    return Items(texts=_texts(texts).texts, images=images)


def _parts(item: InputItem, param: str) -> list[InputPart]:
    """One part, or a text and a picture. Raises ``InvalidRequest`` for anything else."""
    parts: list[InputPart] = [item] if item.content is None else list(item.content)
    for part in parts:
        if (part.text is None) == (part.image_url is None):
            raise InvalidRequest(f"'{param}' must have either 'text' or 'image_url'.", param=param)
    if len(parts) != 1 and {part.text is None for part in parts} != {True, False}:
        raise InvalidRequest(f"'{param}.content' must be one text and one picture, or one of them.", param=param)
    return parts


def _check_all(found: Sequence[object], given: Sequence[object]) -> None:
    if len(found) != len(given):
        raise InvalidRequest(f"'input' must be {_KINDS}.", param="input")
    empty = next((i for i, entry in enumerate(found) if not entry), None)
    if empty is not None:
        raise InvalidRequest(f"Item {empty} of 'input' is empty.", param="input")


# ---------------------------------------------------------------- answer


def to_response(result: EmbedResult, *, model: str, base64: bool) -> EmbeddingList:
    encode = _base64 if base64 else _numbers
    return EmbeddingList(
        data=[Embedding(index=i, embedding=encode(vector)) for i, vector in enumerate(result.vectors)],
        model=model,
        usage=EmbeddingUsage(prompt_tokens=result.usage.prompt_tokens, total_tokens=result.usage.prompt_tokens),
    )


def _base64(vector: bytes) -> str:
    return b64encode(vector).decode("ascii")


def _numbers(vector: bytes) -> list[float]:
    numbers = array("f", vector)
    if byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
