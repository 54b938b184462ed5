import base64
import io
import struct

import pytest
from openai.types import CreateEmbeddingResponse
from PIL import Image

from handlers.types import Picture


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (2, 2), (1, 2, 3)).save(file, "PNG")
    return file.getvalue()


PATH = "/v1/embeddings"
URL = "data:image/png;base64," + base64.b64encode(picture()).decode()
SEEN = Picture(width=2, height=2, pixels=bytes((1, 2, 3)) * 4, full_width=2, full_height=2)


def test_vectors_come_in_the_order_of_the_texts(serve):
    async def scenario(worker):
        data = (await worker.post(PATH, input=["one", "two two", "one"])).json()
        CreateEmbeddingResponse.model_validate(data, strict=True)
        assert [entry["index"] for entry in data["data"]] == [0, 1, 2]
        first, second, third = (entry["embedding"] for entry in data["data"])
        assert first == third != second
        assert data["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
        assert data["model"] == "asked/for:this"

    serve(scenario)


def test_base64_holds_the_same_numbers_as_little_endian_float32(serve):
    async def scenario(worker):
        plain = (await worker.post(PATH, input="one", encoding_format="float")).json()["data"][0]["embedding"]
        packed = (await worker.post(PATH, input="one", encoding_format="base64")).json()["data"][0]["embedding"]
        assert list(struct.unpack(f"<{len(plain)}f", base64.b64decode(packed))) == plain

    serve(scenario)


@pytest.mark.parametrize(
    ("value", "texts", "images"),
    [
        ([[1, 2], [3]], ((1, 2), (3,)), 0),
        ([{"image_url": URL}], (), 1),
        ([{"content": [{"text": "a"}, {"image_url": {"url": URL}}]}], ("a",), 1),
    ],
)
def test_ids_pictures_and_pairs_reach_the_handler(serve, value, texts, images):
    async def scenario(worker):
        answer = await worker.post(PATH, input=value)
        assert answer.status_code == 200, answer.text
        (request,) = worker.handler.seen
        assert (request.texts, request.images) == (texts, (SEEN,) * images)

    serve(scenario)


@pytest.mark.parametrize("value", ["", [], [""], ["a", 1]])
def test_empty_input_is_a_400_that_names_it(serve, value):
    async def scenario(worker):
        answer = await worker.post(PATH, input=value)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")

    serve(scenario)
