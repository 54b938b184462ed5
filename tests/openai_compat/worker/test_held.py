from __future__ import annotations

import pytest

from handlers import types as t
from openai_compat.worker.held import media_bytes

SOUND = t.Sound(pcm=bytes(1000), rate=8000)
PICTURE = t.Picture(width=5, height=2, pixels=bytes(30))
MASK = t.Picture(width=5, height=2, channels=1, pixels=bytes(10))
MESSAGES = (
    t.Message(role="user", parts=(t.TextPart(text="x" * 99), t.ImagePart(picture=PICTURE))),
    t.Message(role="user", parts=(t.AudioPart(sound=SOUND),)),
)


@pytest.mark.parametrize(
    ("request_", "size"),
    [
        (t.TextRequest(messages=MESSAGES), 1030),
        (t.TextRequest(prompts=("x",)), 0),
        (t.ImageRequest(prompt="x", images=(PICTURE, PICTURE), mask=MASK), 70),
        (t.ImageRequest(prompt="x"), 0),
        (t.EmbedRequest(images=(PICTURE,) * 3), 90),
        (t.AudioTaskRequest(audio=SOUND, task="classify"), 1000),
        (t.ImageTaskRequest(picture=PICTURE), 30),
        (t.VideoRequest(prompt="x", image=PICTURE), 30),
        (t.VideoRequest(prompt="x"), 0),
        (t.SpeechRequest(text="x"), 0),
        (t.RankRequest(query="x", documents=("y",)), 0),
    ],
)
def test_a_request_holds_what_was_decoded_for_it(request_, size) -> None:
    assert media_bytes(request_) == size
