import base64
import time

import pytest

from openai_compat.errors import InvalidRequest, UnsupportedParameter
from openai_compat.translate import attachments
from openai_compat.translate.attachments import first_remote, picture_at, sound_at, stand_ins, to_picture, to_recording
from schemas.messages import ImageUrl, InputAudio

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(40))
IMAGES = {
    "png": PNG,
    "jpeg": b"\xff\xd8\xff\xe0" + bytes(20),
    "gif": b"GIF89a" + bytes(20),
    "webp": b"RIFF\x10\x00\x00\x00WEBPVP8 " + bytes(20),
}
SOUNDS = {
    "wav": b"RIFF\x10\x00\x00\x00WAVEfmt " + bytes(20),
    "flac": b"fLaC" + bytes(20),
    "ogg": b"OggS" + bytes(20),
    "mp3": b"ID3\x04" + bytes(20),
    "m4a": b"\x00\x00\x00\x20ftypM4A " + bytes(20),
}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("data", IMAGES.values(), ids=IMAGES)
def test_the_four_formats_are_known_by_their_first_bytes(data):
    assert to_picture(f"data:image/png;base64,{b64(data)}", "p").data == data


@pytest.mark.parametrize(
    "url",
    [
        f"data:image/png;base64,{b64(PNG)}",
        f"data:;base64,{b64(PNG)}",
        f"data:application/octet-stream;name=a.png;base64,{b64(PNG)}",
        f"data:image/jpg;charset=utf-8;BASE64,{b64(PNG)}",
        f"DATA:image/png;base64,{b64(PNG)}",
        f"data:image/png;base64,{b64(PNG).rstrip('=')}",
        f"data:image/png;base64,{base64.urlsafe_b64encode(PNG).decode()}",
        f"data:image/png;base64,{base64.encodebytes(PNG).decode()}",
        "data:image/png," + "".join(f"%{byte:02x}" for byte in PNG),
    ],
)
def test_a_data_url_is_read_however_its_header_is_written(url):
    assert to_picture(url, "p").data == PNG
    assert to_picture(ImageUrl(url=url), "p").data == PNG


def test_an_attachment_knows_its_field_its_kind_and_whether_transparency_counts():
    picture = to_picture(f"data:image/png;base64,{b64(PNG)}", "a", alpha=True)
    recording = to_recording(InputAudio(data=b64(SOUNDS["wav"])), "b")
    assert (picture.param, picture.kind, picture.alpha) == ("a", "picture", True)
    assert (recording.param, recording.kind, recording.alpha) == ("b", "audio", False)


def test_what_stands_in_is_of_the_same_kind():
    picture = to_picture(f"data:image/png;base64,{b64(PNG)}", "a")
    recording = to_recording(InputAudio(data=b64(SOUNDS["wav"])), "b")
    media = stand_ins((picture, recording))
    assert (picture_at(media, "a").channels, sound_at(media, "b").channels) == (3, 1)
    for take, param in ((picture_at, "b"), (sound_at, "a")):
        with pytest.raises(TypeError):
            take(media, param)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "FILE:/etc/passwd", "ftp://example.org/a.png", "gopher://example.org/1", "/etc/passwd", "", "a.png"],
)
def test_only_data_and_the_web_are_known(url):
    with pytest.raises(UnsupportedParameter) as caught:
        to_picture(url, "messages[0].content[0].image_url")
    assert caught.value.param == "messages[0].content[0].image_url"
    assert not url or url not in caught.value.message


def test_a_url_of_the_web_is_kept_for_whoever_may_follow_it():
    picture = to_picture("https://example.org/a.png", "a", alpha=True)
    recording = to_recording(InputAudio(data="HTTPS://example.org/a.mp3"), "b")
    assert (picture.param, picture.url, picture.data, picture.kind, picture.alpha) == (
        "a", "https://example.org/a.png", b"", "picture", True
    )  # fmt: skip
    assert (recording.param, recording.url, recording.data, recording.kind) == ("b", "HTTPS://example.org/a.mp3", b"", "audio")
    media = stand_ins((picture, recording))
    assert (picture_at(media, "a").channels, sound_at(media, "b").channels) == (3, 1)


def test_a_url_that_can_be_read_in_two_ways_is_refused():
    for refuse in (lambda: to_picture("http://a@b.example/x", "p"), lambda: to_recording(InputAudio(data="http://a\\b"), "p")):
        with pytest.raises(InvalidRequest) as caught:
            refuse()
        assert caught.value.param == "p"


def test_the_first_field_with_a_url_is_found():
    given = [("a", "data:image/png;base64,"), ("b", "http://example.org/"), ("c", "https://example.org/")]
    assert first_remote(given) == "b"
    assert first_remote(given[:1]) is None


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64",
        "data:image/png;base64,!!!!",
        "data:image/png;base64,ü",
        "data:image/png;base64,A",
        f"data:image/png;base64,{b64(b'<svg/>')}",
        "data:image/png;base64,",
    ],
)
def test_what_is_no_picture_is_refused(url):
    with pytest.raises(InvalidRequest) as caught:
        to_picture(url, "p")
    assert caught.value.param == "p"


def test_a_picture_has_a_largest_size(monkeypatch):
    monkeypatch.setattr(attachments, "MAX_IMAGE_BYTES", len(PNG) - 1)
    with pytest.raises(InvalidRequest, match="larger"):
        to_picture(f"data:image/png;base64,{b64(PNG)}", "p")


@pytest.mark.parametrize("payload", ["%41", "%4", "%"])
def test_data_that_are_not_base64_are_short_since_reading_them_is_dear(payload):
    """32 MiB of them would stop the gateway for 6 seconds and take 2.5 GB."""
    count = attachments.MAX_PERCENT // len(payload)
    began = time.process_time()
    for times in (count, count + 1, 10_000_000):
        with pytest.raises(InvalidRequest) as caught:
            to_picture("data:image/png," + payload * times, "p")
        assert ("base64" in caught.value.message) == (times > count)
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("format", SOUNDS)
def test_a_recording_is_known_by_its_first_bytes_and_not_by_its_name(format):
    assert to_recording(InputAudio(data=b64(SOUNDS[format]), format="pcm16"), "p").data == SOUNDS[format]


def test_a_recording_may_be_a_data_url():
    assert to_recording(InputAudio(data=f"data:audio/wav;base64,{b64(SOUNDS['wav'])}"), "p").data == SOUNDS["wav"]


def test_what_is_no_recording_is_refused():
    for data in ("", "!!!", b64(b"hello")):
        with pytest.raises(InvalidRequest) as caught:
            to_recording(InputAudio(data=data), "p")
        assert caught.value.param == "p"


def test_a_recording_has_a_largest_size(monkeypatch):
    monkeypatch.setattr(attachments, "MAX_AUDIO_BYTES", 5)
    with pytest.raises(InvalidRequest, match="larger"):
        to_recording(InputAudio(data=b64(SOUNDS["wav"])), "p")
