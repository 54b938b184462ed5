import base64
import json
import struct

import pytest

from handlers.types import EmbedResult, Picture, Usage
from openai_compat.errors import InvalidRequest
from openai_compat.translate import embeddings
from openai_compat.translate.attachments import Attachment
from openai_compat.translate.embeddings import Items
from schemas.decode import decode
from schemas.embeddings import EmbeddingRequest

FILE = b"\x89PNG\r\n\x1a\n" + bytes(8)
URL = "data:image/png;base64," + base64.b64encode(FILE).decode()
FIRST = Attachment(param="input[0].image_url", data=FILE)
SECOND = Attachment(param="input[1].image_url", data=FILE)
TEXT_ITEM = {"type": "text", "text": "a"}
IMAGE_ITEM = {"type": "image_url", "image_url": {"url": URL}}
PAIR = {"content": [TEXT_ITEM, IMAGE_ITEM]}


def body(value, **fields) -> EmbeddingRequest:
    return decode(json.dumps({"model": "m", "input": value, **fields}).encode(), EmbeddingRequest)


@pytest.mark.parametrize(
    ("value", "items", "verb"),
    [
        ("one", Items(texts=("one",)), "embed_text"),
        (["one", "two"], Items(texts=("one", "two")), "embed_text"),
        ([1, 2], Items(texts=((1, 2),)), "embed_text"),
        ([[1, 2], [3]], Items(texts=((1, 2), (3,))), "embed_text"),
        ([TEXT_ITEM, {"text": "b"}], Items(texts=("a", "b")), "embed_text"),
        ([IMAGE_ITEM, {"image_url": URL}], Items(images=(FIRST, SECOND)), "embed_image"),
        ([PAIR], Items(texts=("a",), images=(FIRST,)), "embed_multimodal"),
        ([{"content": [IMAGE_ITEM, TEXT_ITEM]}], Items(texts=("a",), images=(FIRST,)), "embed_multimodal"),
    ],
)
def test_each_form_of_input_is_read(value, items, verb):
    assert embeddings.to_items(body(value)) == items
    assert embeddings.plan(body(value)) == verb


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        [],
        [""],
        ["a", ""],
        [[]],
        [[1], []],
        ["a", 1],
        [1, "a"],
        ["a", [1]],
        [[1], "a"],
        [TEXT_ITEM, IMAGE_ITEM],
        [PAIR, TEXT_ITEM],
        ["a", TEXT_ITEM],
        [{}],
        [{"text": "a", "image_url": URL}],
        [{"content": []}],
        [{"content": [TEXT_ITEM, TEXT_ITEM]}],
        [{"content": [TEXT_ITEM, IMAGE_ITEM, IMAGE_ITEM]}],
        [{"image_url": "ftp://example.org/cat.png"}],
        [{"image_url": "data:image/png;base64,AAAA"}],
        [{"text": ""}],
        ["a"] * 2049,
        [[1]] * 2049,
        [IMAGE_ITEM] * 17,
        ["a" * 900_000] * 5,
        [-1],
        [2**40],
        {"text": "a"},
    ],
)
def test_what_cannot_be_embedded_is_refused_by_name(value):
    with pytest.raises(InvalidRequest) as caught:
        embeddings.plan(body(value))
    assert (caught.value.param or "").startswith("input")


def test_the_fields_reach_the_domain(facts):
    wire = body("a", dimensions=3, input_type="search_query", prompt_name="p", truncate=True, mode="query")
    request = embeddings.to_request(wire, facts, embeddings.to_items(wire), {})
    assert (request.dimensions, request.input_type, request.prompt_name) == (3, "query", "p")
    assert (request.truncate, request.mode) == (True, "query")
    assert embeddings.to_request(body("a", input_type="passage"), facts, Items(("a",)), {}).input_type == "document"


def test_pictures_keep_their_order(facts):
    made = [Picture(width=1, height=1, pixels=pixels) for pixels in (b"abc", b"def")]
    wire = body([IMAGE_ITEM, IMAGE_ITEM])
    media = {SECOND.param: made[1], FIRST.param: made[0]}
    assert embeddings.to_request(wire, facts, embeddings.to_items(wire), media).images == tuple(made)


@pytest.mark.parametrize(
    "fields", [{"dimensions": 0}, {"encoding_format": "int8"}, {"input_type": "poem"}, {"truncate": "END"}]
)
def test_a_field_out_of_bounds_is_named(fields):
    with pytest.raises(InvalidRequest) as caught:
        body("a", **fields)
    assert caught.value.param == next(iter(fields))


def test_an_answer_has_the_same_numbers_in_both_forms():
    numbers = [(0.1, -2.5), (3.0, 1e-30)]
    result = EmbedResult(vectors=tuple(struct.pack("<2f", *pair) for pair in numbers), usage=Usage(prompt_tokens=7))
    plain = embeddings.to_response(result, model="m", base64=False)
    packed = embeddings.to_response(result, model="m", base64=True)
    assert [struct.pack("<2f", *entry.embedding) for entry in plain.data] == list(result.vectors)
    assert [base64.b64decode(entry.embedding) for entry in packed.data] == list(result.vectors)
    assert [entry.index for entry in plain.data] == [0, 1]
    assert (plain.usage.prompt_tokens, plain.usage.total_tokens) == (7, 7)
