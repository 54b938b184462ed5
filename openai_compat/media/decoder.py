"""Strangers' sounds and pictures → samples and pixels, within limits of size, memory and time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Struct

from handlers.types import Picture, Sound
from openai_compat.errors import InvalidRequest
from openai_compat.media import audio_child, picture_child, pipe
from openai_compat.media.children import TOO_DEAR, Children, Cost
from openai_compat.media.fetch import Fetcher
from openai_compat.media.sniff import PICTURES, TAKEN, sniff, sniff_picture
from openai_compat.protocol import FetchRules

_TOGETHER = 2  # requests whose pictures and sounds are decoded at the same time


class AudioLimits(Struct, frozen=True, kw_only=True):
    """How much of a sound is taken, and what its decoding may cost. ``memory`` is in bytes, the rest in seconds.

    ``cpu`` is for a sound of all ``seconds``, and a shorter one gets its share; ``head`` is for what stands before and between.
    """

    seconds: float = 1800.0
    memory: int = 256 << 20
    cpu: int = 60
    head: int = 5
    wall: float = 120.0

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> AudioLimits:
        """As a model's options set them: ``max_audio_seconds``, and the time to decode so much."""
        seconds = float(options.get("max_audio_seconds", cls().seconds))
        share = max(1.0, seconds / cls().seconds)
        return cls(seconds=seconds, cpu=round(cls().cpu * share), wall=cls().wall * share)


class PictureLimits(Struct, frozen=True, kw_only=True):
    """Which pictures are taken, and what their decoding may cost: bytes of ``memory`` and seconds for each.

    ``pixels`` may come; of more than ``kept`` only each second in both directions stays, or fewer. ``ratio`` is that of the
    longer side to the shorter: what brings the shorter side to a model's size makes the longer one huge. ``together`` is
    bytes of pixels that the pictures of one request may have when they are decoded, and ``wall_together`` its seconds.
    """

    pixels: int = 40_000_000
    kept: int = 16_000_000
    ratio: int = 200
    together: int = 64 << 20
    memory: int = 800 << 20
    cpu: int = 10
    wall: float = 60.0
    wall_together: float = 120.0


class Encoded(Protocol):
    """A picture or sound as it came; ``param`` is the field that brought it. ``alpha``: keep a picture's transparency.

    With a ``url`` it is fetched first, and ``data`` is empty.
    """

    @property
    def param(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    @property
    def url(self) -> str: ...
    @property
    def kind(self) -> Literal["picture", "audio"]: ...
    @property
    def alpha(self) -> bool: ...


class MediaDecoder:
    """What a worker's routes decode with. Belongs to one event loop; ``close`` ends its processes, as does its own end."""

    def __init__(
        self,
        audio: AudioLimits = AudioLimits(),  # noqa: B008 -- frozen
        pictures: PictureLimits = PictureLimits(),  # noqa: B008
        fetcher: Fetcher | None = None,
    ) -> None:
        self._audio_limits = audio
        self._picture_limits = pictures
        self.audio = Children("audio")
        self.pictures = Children("picture")
        self._fetcher = fetcher or Fetcher()
        self._together = asyncio.Semaphore(_TOGETHER)

    async def decode_audio(self, data: bytes, *, rate: int, limits: AudioLimits | None = None, param: str = "file") -> Sound:
        """One channel at ``rate`` samples a second.

        Costs 11 ms for 11 s of WAV on a core at 2.6 GHz, and 0.3 s more where a process has to be started first.

        Raises:
            InvalidRequest: naming ``param``: no sound, none that is taken here, too long, or too dear to decode.
            Unavailable: no process could be started, or somebody else stopped it: the system, where memory is short.
        """
        bounds = limits or self._audio_limits
        task = audio_child.AudioTask(sniff(data, param=param).demuxer, rate, bounds.seconds, bounds.cpu)
        word, pieces = await self.audio.ask(task, data, Cost(memory=bounds.memory, cpu=bounds.head, wall=bounds.wall))
        if word:
            message = _SOUND_MESSAGES.get(word, _SOUND_MESSAGES[pipe.UNREADABLE]).format(seconds=bounds.seconds)
            raise InvalidRequest(message, param=param, code="invalid_audio")
        return Sound(pcm=b"".join(pieces), rate=rate)

    async def decode_image(
        self, data: bytes, *, param: str, alpha: bool = False, limits: PictureLimits | None = None
    ) -> Picture:
        """The picture upright, in RGB, of an animation the first; with ``alpha`` in RGBA where anything of it is transparent.

        Raises:
            InvalidRequest: naming ``param``: no picture, none that is taken here, too large, or too dear to decode.
            Unavailable: as for a sound.
        """
        bounds = limits or self._picture_limits
        format = sniff_picture(data, param=param)
        task = picture_child.PictureTask(format, bounds.pixels, bounds.kept, bounds.ratio, alpha)
        word, pieces = await self.pictures.ask(task, data, Cost(memory=bounds.memory, cpu=bounds.cpu, wall=bounds.wall))
        if word or not pieces:
            message = _PICTURE_MESSAGES.get(word, _PICTURE_MESSAGES[pipe.UNREADABLE])
            raise _bad_picture(message.format(pixels=bounds.pixels, ratio=bounds.ratio), param)
        shape = msgspec.msgpack.decode(pieces[0], type=picture_child.Shape)
        return Picture(pixels=b"".join(pieces[1:]), **msgspec.structs.asdict(shape))

    async def decode_together(
        self, parts: Sequence[Encoded], *, rate: int, fetch: FetchRules | None = None
    ) -> dict[str, Picture | Sound]:
        """All that one request brings, by the fields that brought it, within what one request may hold and cost.

        Raises:
            InvalidRequest, Unavailable: as for the first of them that fails, or is to be fetched where ``fetch`` is None.
        """
        if not parts:
            return {}
        async with self._fetcher.fetched(parts, fetch) as files:
            return await self._decode_all(parts, files, rate)

    async def _decode_all(self, parts: Sequence[Encoded], files: Mapping[str, bytes], rate: int) -> dict[str, Picture | Sound]:
        budget = _Budget(self._picture_limits.together, self._audio_limits.seconds)
        async with self._together:
            tasks = [
                asyncio.ensure_future(self._decode(part, files.get(part.param, part.data), rate, budget)) for part in parts
            ]
            try:
                async with asyncio.timeout(self._picture_limits.wall_together + self._audio_limits.wall):
                    found = await asyncio.gather(*tasks)
            except TimeoutError:
                raise _bad_picture(_PICTURE_MESSAGES[TOO_DEAR], parts[0].param) from None
            finally:
                await _end(tasks)
        return {part.param: made for part, made in zip(parts, found, strict=True)}

    async def _decode(self, part: Encoded, data: bytes, rate: int, budget: _Budget) -> Picture | Sound:
        if part.kind == "audio":
            sound = await self.decode_audio(data, rate=rate, param=part.param)
            budget.hear(sound, part.param)
            return sound
        picture = await self.decode_image(data, param=part.param, alpha=part.alpha)
        budget.see(picture, part.param)
        return picture

    async def close(self) -> None:
        await self.audio.close()
        await self.pictures.close()
        self._fetcher.close()


class _Budget:
    """What is left for the media of one request: bytes of pixels and seconds of sound."""

    def __init__(self, size: int, seconds: float) -> None:
        self._size, self._left = size, size
        self._seconds, self._silence = seconds, seconds

    def see(self, picture: Picture, param: str) -> None:
        self._left -= len(picture.pixels)
        if self._left < 0:
            raise _bad_picture(f"The pictures of one request may have {self._size >> 20} MiB of pixels together.", param)

    def hear(self, sound: Sound, param: str) -> None:
        self._silence -= sound.seconds
        if self._silence < 0:
            message = f"The recordings of one request may last {self._seconds:g} seconds together."
            raise InvalidRequest(message, param=param, code="invalid_audio")


_SOUND_MESSAGES = {
    audio_child.TOO_LONG: "The sound is longer than the {seconds:g} seconds that are taken here.",
    audio_child.NO_SOUND: "The file holds no sound.",
    audio_child.CODEC: f"The file's sound is coded in a way that is not taken here. Formats: {TAKEN}.",
    audio_child.SHAPE: "The sound has a sample rate or a number of channels that is not taken here.",
    pipe.UNREADABLE: "The sound could not be decoded: the file is broken, or not what it seems.",
    TOO_DEAR: "The sound could not be decoded within this server's limits of time and memory.",
}
_PICTURE_MESSAGES = {
    picture_child.TOO_LARGE: "The picture has more than {pixels} pixels.",
    picture_child.TOO_LONG: "One side of the picture is more than {ratio} times as long as the other.",
    pipe.UNREADABLE: f"The picture cannot be read: the file is broken, or not what it seems. Formats: {PICTURES}.",
    TOO_DEAR: "The picture could not be decoded within this server's limits of time and memory.",
}


def _bad_picture(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, param=param, code="invalid_image")


async def _end(tasks: Sequence[asyncio.Future[Picture | Sound]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
