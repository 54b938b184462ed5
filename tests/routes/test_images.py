"""The routes of pictures, around the echo handler: it paints the prompt's colour."""

from __future__ import annotations

import base64
import io
import json

import pytest
from msgspec.structs import replace
from openai.types import ImagesResponse
from openai.types.image_edit_stream_event import ImageEditStreamEvent
from openai.types.image_gen_stream_event import ImageGenStreamEvent
from PIL import Image
from pydantic import TypeAdapter

from handlers import types as t
from openai_compat.errors import APIError, InvalidRequest
from openai_compat.http.form import Form, FormReader
from routes.images import edit_form, variation_form

GENERATIONS, EDITS, VARIATIONS = (f"/v1/images/{name}" for name in ("generations", "edits", "variations"))
EVENTS = {"image_generation": TypeAdapter(ImageGenStreamEvent), "image_edit": TypeAdapter(ImageEditStreamEvent)}


def png(size: tuple[int, int] = (6, 4), color: tuple[int, ...] = (10, 20, 30), mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, color).save(file, "PNG")
    return file.getvalue()


def url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def holed(size: tuple[int, int] = (6, 4), hole: tuple[int, int] = (2, 1)) -> bytes:
    """Opaque but for one pixel."""
    image = Image.new("RGBA", size, (1, 2, 3, 255))
    image.putpixel(hole, (1, 2, 3, 0))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def opened(b64: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(b64)))


def events_of(text: str) -> list[dict]:
    """The objects of a stream's events, each of which names its type twice."""
    found = []
    for frame in text.split("\n\n"):
        if frame.startswith("event: "):
            name, data = frame.split("\n")
            found.append(json.loads(data.removeprefix("data: ")))
            assert found[-1]["type"] == name.removeprefix("event: ")
    return found


async def form(worker, path: str, files: list[tuple[str, bytes]], **fields):
    parts = [(name, (f"{name}.png", data, "image/png")) for name, data in files]
    return await worker.client.post(path, data={"model": "m", **fields}, files=parts, headers=worker.headers)


# ---------------------------------------------------------------- generations


def test_pictures_are_made_of_a_text(serve) -> None:
    async def scenario(worker):
        answer = await worker.post(GENERATIONS, prompt="a red circle", n=2, size="8x6")
        assert answer.status_code == 200, answer.text
        body = answer.json()
        ImagesResponse.model_validate(body, strict=True)
        assert (body["output_format"], body["size"], body["background"]) == ("png", "8x6", "opaque")
        assert "quality" not in body
        assert body["usage"]["total_tokens"] == body["usage"]["input_tokens"] + body["usage"]["output_tokens"]
        first, second = (opened(item["b64_json"]) for item in body["data"])
        assert (first.format, first.size, first.mode, first.info) == ("PNG", (8, 6), "RGB", {})
        assert first.tobytes() == second.tobytes()

    serve(scenario)


def test_every_field_reaches_the_handler(serve) -> None:
    async def scenario(worker):
        fields = {
            "prompt": "P", "n": 3, "size": "64x32", "seed": 7, "steps": 9, "guidance": 2.5, "negative_prompt": "N",
            "quality": "hd", "mode": "auto",
        }  # fmt: skip
        answer = await worker.post(GENERATIONS, **fields)
        assert answer.json()["quality"] == "high"
        assert worker.handler.seen == [
            t.ImageRequest(
                prompt="P", n=3, width=64, height=32, seed=7, steps=9, guidance=2.5, negative_prompt="N", quality="high",
                mode="auto",
            )
        ]  # fmt: skip

    serve(scenario)


def test_the_names_that_other_servers_give_steps_and_guidance_are_known(serve) -> None:
    async def scenario(worker):
        await worker.post(GENERATIONS, prompt="P", num_inference_steps=4, guidance_scale=3.0, steps=None)
        assert (worker.handler.seen[0].steps, worker.handler.seen[0].guidance) == (4, 3.0)

    serve(scenario)


@pytest.mark.parametrize(("format", "name"), [("png", "PNG"), ("webp", "WEBP"), ("jpeg", "JPEG")])
def test_the_format_is_the_one_asked_for(serve, format, name) -> None:
    async def scenario(worker):
        body = (await worker.post(GENERATIONS, prompt="P", size="16x16", output_format=format)).json()
        assert body["output_format"] == format
        assert opened(body["data"][0]["b64_json"]).format == name

    serve(scenario)


def test_compression_makes_the_file_smaller(serve) -> None:
    async def scenario(worker):
        def noisy(request, ctx):
            image = Image.effect_noise((64, 64), 80).convert("RGB")
            return t.PictureResult(pictures=(t.Picture(width=64, height=64, pixels=image.tobytes()),))

        worker.handler.generate_image = noisy
        sizes = [
            len((await worker.post(GENERATIONS, prompt="P", output_format="webp", output_compression=value)).content)
            for value in (0, 50, 100)
        ]
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[2] / 2

    serve(scenario)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "P", "n": 0}, "n"),
        ({"prompt": "P", "n": 11}, "n"),
        ({"prompt": "P", "size": "big"}, "size"),
        ({"prompt": "P", "size": "0x10"}, "size"),
        ({"prompt": "P", "size": "9999x10"}, "size"),
        ({"prompt": "P", "steps": 0}, "steps"),
        ({"prompt": "P", "steps": 4, "num_inference_steps": 5}, "num_inference_steps"),
        ({"prompt": "P", "guidance": 1, "guidance_scale": 2}, "guidance_scale"),
        ({"prompt": "P", "quality": "best"}, "quality"),
        ({"prompt": "P", "quality": "max"}, "quality"),
        ({"prompt": "P", "output_format": "gif"}, "output_format"),
        ({"prompt": "P", "output_format": "bmp"}, "output_format"),
        ({"prompt": "P", "output_compression": 50}, "output_compression"),
        ({"prompt": "P", "output_compression": 101, "output_format": "jpeg"}, "output_compression"),
        ({"prompt": "P", "background": "transparent"}, "background"),
        ({"prompt": "P", "frame_count": 3}, "frame_count"),
        ({"prompt": "P", "frame_duration_ms": 3}, "frame_duration_ms"),
        ({"prompt": "P", "svg": {"model": "x"}}, "svg"),
        ({"prompt": "P", "partial_images": 4}, "partial_images"),
        ({"prompt": "P", "stream": True, "response_format": "url"}, "response_format"),
        ({"prompt": "P", "response_format": "file"}, "response_format"),
        ({"prompt": "P", "mode": "nobody"}, "mode"),
    ],
)
def test_what_cannot_be_made_is_refused_by_name(serve, fields, param) -> None:
    async def scenario(worker):
        answer = await worker.post(GENERATIONS, **fields)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)

    serve(scenario)


@pytest.mark.parametrize(
    "fields",
    [
        {"background": "opaque"}, {"background": "auto"}, {"moderation": "low"}, {"style": "vivid"}, {"user": "me"},
        {"safety_identifier": "me"}, {"complexity": "high"}, {"size": "auto"}, {"quality": "auto"}, {"partial_images": 3},
        {"response_format": "b64_json"}, {"output_compression": 100}, {"n": None, "stream": None},
    ],
)  # fmt: skip
def test_what_has_no_effect_changes_nothing(serve, fields) -> None:
    async def scenario(worker):
        assert (await worker.post(GENERATIONS, prompt="P", **fields)).status_code == 200
        assert worker.handler.seen == [t.ImageRequest(prompt="P")]

    serve(scenario)


def test_the_worker_answers_with_the_pictures_themselves_where_links_are_wanted(serve) -> None:
    async def scenario(worker):
        body = (await worker.post(GENERATIONS, prompt="P", size="8x8", response_format="url")).json()
        assert opened(body["data"][0]["b64_json"]).size == (8, 8)

    serve(scenario)


# ---------------------------------------------------------------- streams


def test_a_stream_shows_partial_pictures_and_then_the_picture(serve) -> None:
    async def scenario(worker):
        answer = await worker.post(GENERATIONS, prompt="P", size="8x6", stream=True, partial_images=2, output_format="webp")
        assert answer.headers["content-type"].startswith("text/event-stream")
        *partial, last = events_of(answer.text)
        for event in (*partial, last):
            EVENTS["image_generation"].validate_python(event, strict=True)
            assert (event["size"], event["output_format"], event["quality"]) == ("8x6", "webp", "auto")
            assert opened(event["b64_json"]).format == "WEBP"
            assert "index" not in event
        assert [event["partial_image_index"] for event in partial] == [0, 1]
        assert (last["type"], last["usage"]["input_tokens"]) == ("image_generation.completed", 1)

    serve(scenario)


def test_of_several_streamed_pictures_each_has_its_event_and_the_last_has_the_usage(serve) -> None:
    async def scenario(worker):
        events = events_of((await worker.post(GENERATIONS, prompt="P", size="8x6", stream=True, n=3)).text)
        assert [(event["index"], event["usage"]["input_tokens"]) for event in events] == [(0, 0), (1, 0), (2, 1)]
        for event in events:
            EVENTS["image_generation"].validate_python(event)

    serve(scenario)


def test_progress_is_told_in_comments(serve) -> None:
    async def scenario(worker):
        def slow(request, ctx):
            for done in range(1, 4):
                ctx.emit(t.ProgressDelta(done=done, total=3))
            return t.PictureResult(pictures=(t.Picture(width=1, height=1, pixels=b"abc"),))

        worker.handler.generate_image = slow
        text = (await worker.post(GENERATIONS, prompt="P", stream=True)).text
        assert ": progress 3/3\n\n" in text
        assert len(events_of(text)) == 1

    serve(scenario)


def test_a_failure_after_the_stream_began_is_its_last_event(serve) -> None:
    async def scenario(worker):
        def failing(request, ctx):
            ctx.emit(t.PictureDelta(index=0, picture=t.Picture(width=1, height=1, pixels=b"abc")))
            raise APIError("broken")

        worker.handler.generate_image = failing
        text = (await worker.post(GENERATIONS, prompt="P", stream=True, partial_images=1)).text
        assert [event["type"] for event in events_of(text)] == ["image_generation.partial_image"]
        assert json.loads(text.strip().split("\n\n")[-1].removeprefix("data: "))["error"]["message"] == "broken"

    serve(scenario)


def test_a_failure_before_the_stream_began_has_its_own_status(serve) -> None:
    async def scenario(worker):
        answer = await worker.post(GENERATIONS, prompt="P", stream=True, mode="nobody")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "mode")

    serve(scenario)


# ---------------------------------------------------------------- edits and variations


def test_an_edit_is_sent_as_a_form_or_as_json(serve) -> None:
    async def scenario(worker):
        fields = {"prompt": "P", "size": "8x8"}
        answers = [
            await form(worker, EDITS, [("image", png())], **fields),
            await form(worker, EDITS, [("image[]", png())], **fields),
            await worker.post(EDITS, images=[{"image_url": url(png())}], **fields),
            await worker.post(EDITS, images=[{"image_url": {"url": url(png())}}], **fields),
            await worker.post(EDITS, image=url(png()), **fields),
            await worker.post(EDITS, image=[url(png())], **fields),
        ]
        assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
        seen, *others = worker.handler.seen
        assert all(other == seen for other in others)
        assert (seen.task, seen.prompt, seen.mask, len(seen.images)) == ("edit", "P", None, 1)
        assert (seen.images[0].width, seen.images[0].height, seen.images[0].pixels) == (6, 4, bytes((10, 20, 30)) * 24)

    serve(scenario)


def test_the_fields_of_a_form_have_their_types(serve) -> None:
    async def scenario(worker):
        fields = {
            "prompt": "P", "n": "2", "size": "auto", "seed": "-5", "strength": "0.5", "guidance_scale": "2", "stream": "false",
            "quality": "low", "input_fidelity": "high", "mode_options[tone]": "warm",
        }  # fmt: skip
        await form(worker, EDITS, [("image", png())], **fields)
        (seen,) = worker.handler.seen
        wanted = t.ImageRequest(
            prompt="P", task="edit", n=2, seed=-5, strength=0.5, guidance=2.0, quality="low", mode_options={"tone": "warm"}
        )
        assert replace(seen, images=()) == wanted

    serve(scenario)


def test_several_pictures_keep_their_order(serve) -> None:
    async def scenario(worker):
        pictures = [png(color=(i, i, i)) for i in range(16)]
        answer = await form(worker, EDITS, [("image[]", picture) for picture in pictures], prompt="P")
        assert answer.status_code == 200, answer.text
        assert [picture.pixels[0] for picture in worker.handler.seen[0].images] == list(range(16))

    serve(scenario)


@pytest.mark.parametrize("json_body", [False, True])
def test_what_is_transparent_in_the_mask_may_change(serve, json_body) -> None:
    async def scenario(worker):
        if json_body:
            mask = {"image_url": url(holed())}
            await worker.post(EDITS, prompt="P", images=[{"image_url": url(png())}], mask=mask)
        else:
            await form(worker, EDITS, [("image", png()), ("mask", holed())], prompt="P")
        mask = worker.handler.seen[0].mask
        assert (mask.width, mask.height, mask.channels) == (6, 4, 1)
        assert [place for place, value in enumerate(mask.pixels) if value] == [6 + 2]
        assert mask.pixels[6 + 2] == 255

    serve(scenario)


def test_without_a_mask_the_picture_s_own_holes_may_change_and_the_model_sees_no_transparency(serve) -> None:
    async def scenario(worker):
        await form(worker, EDITS, [("image", holed())], prompt="P")
        (seen,) = worker.handler.seen
        assert (seen.images[0].channels, seen.images[0].pixels) == (3, bytes((1, 2, 3)) * 24)
        assert seen.mask.pixels.count(255) == 1

    serve(scenario)


def test_a_variation_needs_a_picture_alone(serve) -> None:
    async def scenario(worker):
        for answer in (
            await form(worker, VARIATIONS, [("image", png())], n="2", size="8x8"),
            await worker.post(VARIATIONS, image=url(png()), n=2, size="8x8"),
            await worker.post(VARIATIONS, image={"image_url": url(png())}, n=2, size="8x8"),
        ):
            ImagesResponse.model_validate(answer.json(), strict=True)
            assert len(answer.json()["data"]) == 2
        seen, *others = worker.handler.seen
        assert all(other == seen for other in others)
        assert (seen.task, seen.prompt, seen.n, len(seen.images)) == ("vary", "", 2, 1)

    serve(scenario)


def test_what_a_form_holds_both_as_a_file_and_as_a_field_is_refused(serve) -> None:
    async def scenario(worker):
        two = [("image[]", png()), ("image[]", png())]
        for param, answer in (
            ("image", await form(worker, EDITS, [("image", png())], prompt="P", image=url(png()))),
            ("image", await form(worker, EDITS, two, prompt="P", **{"image[]": url(png())})),
            ("mask", await form(worker, EDITS, [("image", png()), ("mask", holed())], prompt="P", mask=url(holed()))),
            ("image", await form(worker, VARIATIONS, [("image", png())], image=url(png()))),
        ):
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)

    serve(scenario)


def test_files_and_fields_are_counted_together(serve) -> None:
    async def scenario(worker):
        inside = json.dumps([url(png())] * 3)
        answer = await form(worker, EDITS, [("image[]", png())] * 14, prompt="P", images=inside)
        assert (answer.status_code, answer.json()["error"]["message"]) == (
            400,
            "At most 16 pictures are allowed; 17 were sent.",
        )

    serve(scenario)


def test_a_variation_has_no_mask(serve) -> None:
    async def scenario(worker):
        answer = await form(worker, VARIATIONS, [("image", png()), ("mask", holed())])
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "mask")

    serve(scenario)


def test_an_edit_can_be_streamed(serve) -> None:
    async def scenario(worker):
        answer = await form(worker, EDITS, [("image", png())], prompt="P", stream="true", partial_images="1", size="8x8")
        partial, last = events_of(answer.text)
        assert (partial["type"], last["type"]) == ("image_edit.partial_image", "image_edit.completed")
        for event in (partial, last):
            EVENTS["image_edit"].validate_python(event, strict=True)

    serve(scenario)


BAD_FORMS = [
    (EDITS, [], {"prompt": "P"}, "image"),
    (EDITS, [("image", b"")], {"prompt": "P"}, "image"),
    (EDITS, [("image", png())], {}, "prompt"),
    (EDITS, [("image", b"no picture")], {"prompt": "P"}, "image"),
    (EDITS, [("image", png()[:50])], {"prompt": "P"}, "image"),
    (EDITS, [("image[]", png()), ("image[]", png()[:50])], {"prompt": "P"}, "image[1]"),
    (EDITS, [("image[]", png())] * 17, {"prompt": "P"}, "image"),
    (EDITS, [("image", png()), ("mask", holed((4, 6)))], {"prompt": "P"}, "mask"),
    (EDITS, [("image", png()), ("mask", png())], {"prompt": "P"}, "mask"),
    (EDITS, [("image", png()), ("mask", png(mode="RGBA", color=(0, 0, 0, 255)))], {"prompt": "P"}, "mask"),
    (EDITS, [("image", png()), ("mask", holed()), ("mask", holed())], {"prompt": "P"}, "mask"),
    (EDITS, [("image", png()), ("mask", b"")], {"prompt": "P"}, "mask"),
    (EDITS, [("image", png()), ("markup", holed())], {"prompt": "P"}, "markup"),
    (EDITS, [("image", png())], {"prompt": "P", "strength": "1.5"}, "strength"),
    (EDITS, [("image", png())], {"prompt": "P", "background": "transparent"}, "background"),
    (VARIATIONS, [], {}, "image"),
    (VARIATIONS, [("image", png())] * 2, {}, "image"),
]


@pytest.mark.parametrize(("path", "files", "fields", "param"), BAD_FORMS)
def test_a_bad_form_is_refused_by_name(serve, path, files, fields, param) -> None:
    async def scenario(worker):
        answer = await form(worker, path, files or [("nothing", b"x")], **fields)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        assert worker.handler.seen == []

    serve(scenario)


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (EDITS, {"prompt": "P"}, "image"),
        (EDITS, {"prompt": "P", "images": []}, "image"),
        (EDITS, {"prompt": "P", "images": [{}]}, "images[0].image_url"),
        (EDITS, {"prompt": "P", "images": [{"file_id": "file-1"}]}, "images[0].file_id"),
        (EDITS, {"prompt": "P", "images": [{"image_url": "https://example.org/a.png"}]}, "images[0].image_url"),
        (EDITS, {"prompt": "P", "images": [{"image_url": url(png())}] * 16, "image": url(png())}, "image"),
        (EDITS, {"prompt": "P", "image": url(png()), "mask": {"image_url": "file:///etc/passwd"}}, "mask.image_url"),
        (EDITS, {"prompt": "P", "image": url(png()), "mask": url(holed((3, 3)))}, "mask"),
        (EDITS, {"prompt": "P", "image": url(png()), "markup": url(png())}, "markup"),
        (VARIATIONS, {}, "image"),
        (VARIATIONS, {"image": "no url"}, "image"),
    ],
)
def test_a_bad_json_body_is_refused_by_name(serve, path, fields, param) -> None:
    async def scenario(worker):
        answer = await worker.post(path, **fields)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        assert worker.handler.seen == []

    serve(scenario)


def as_the_gateway_reads(files: list[tuple[str, bytes]]) -> Form:
    boundary = b"--b"
    parts = [
        b'%b\r\nContent-Disposition: form-data; name="%b"; filename="x"\r\n\r\n%b\r\n' % (boundary, name.encode(), data)
        for name, data in [*files]
    ]
    prompt = b'%b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nP\r\n' % boundary
    reader = FormReader("multipart/form-data; boundary=b", keep_files=False)
    reader.feed(b"".join([prompt, *parts]) + b"--b--\r\n")
    return reader.finish()


def test_the_gateway_takes_a_form_whose_files_it_has_not_kept() -> None:
    assert edit_form(as_the_gateway_reads([("image[]", b"anything"), ("mask", b"anything")])).prompt == "P"
    assert variation_form(as_the_gateway_reads([("image", b"anything")])).prompt == "P"


@pytest.mark.parametrize(
    ("read", "files", "param"),
    [
        (edit_form, [], "image"),
        (edit_form, [("image", b"")], "image"),
        (edit_form, [("image", b"x"), ("image", b"")], "image[1]"),
        (edit_form, [("image", b"x")] * 17, "image"),
        (edit_form, [("image", b"x"), ("mask", b"x"), ("mask", b"x")], "mask"),
        (edit_form, [("image", b"x"), ("mask", b"")], "mask"),
        (edit_form, [("image", b"x"), ("markup", b"x")], "markup"),
        (variation_form, [("mask", b"x")], "image"),
        (variation_form, [("image", b"x")] * 2, "image"),
    ],
)
def test_the_gateway_refuses_a_form_without_looking_into_its_files(read, files, param) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(as_the_gateway_reads(files))
    assert caught.value.param == param


@pytest.mark.parametrize("path", [GENERATIONS, EDITS])
def test_a_line_break_is_no_part_of_a_size(serve, path) -> None:
    async def scenario(worker) -> None:
        answer = await worker.post(path, prompt="p", size="16x16\n", images=[{"image_url": url(png())}])
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "size")

    serve(scenario)
