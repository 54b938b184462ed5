"""Strangers' sounds → samples, in processes that can be stopped and hold nothing of value.

A process is started on first use, kept for the next sound, and replaced when it dies or has served for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from handlers.types import Sound
from openai_compat.errors import APIError, InvalidRequest, Unavailable
from openai_compat.media import audio_child
from openai_compat.media.sniff import TAKEN, sniff

SIDE_BY_SIDE = 2
USES = 200
_START_SECONDS = 60.0
_END_SECONDS = 5.0
_ATTEMPTS = 2
# What Python needs to find its modules; no secret of the server's.
_ENVIRONMENT = frozenset({"PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL"})


class _Killed(Exception):
    """A process was ended by somebody else."""


class AudioLimits(Struct, frozen=True, kw_only=True):
    """How much of a sound is taken, and what its decoding may cost. ``memory`` is in bytes, the rest in seconds."""

    seconds: float = 1800.0
    memory: int = 256 << 20
    cpu: int = 60
    wall: float = 120.0

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> AudioLimits:
        """As a model's options set them: ``max_audio_seconds``, and the time to decode so much."""
        seconds = float(options.get("max_audio_seconds", cls().seconds))
        share = max(1.0, seconds / cls().seconds)
        return cls(seconds=seconds, cpu=round(cls().cpu * share), wall=cls().wall * share)


class MediaDecoder:
    """What a worker's routes decode with. Belongs to one event loop; ``close`` ends its processes, as does its own end."""

    def __init__(self, limits: AudioLimits = AudioLimits()) -> None:  # noqa: B008 -- frozen
        self._limits = limits
        self._idle: list[_Child] = []
        self._free = asyncio.Semaphore(SIDE_BY_SIDE)

    async def decode_audio(self, data: bytes, *, rate: int, limits: AudioLimits | None = None, param: str = "file") -> Sound:
        """One channel at ``rate`` samples a second.

        Costs 11 ms for 11 s of WAV on a core at 2.6 GHz, and 0.3 s more where a process has to be started first.

        Raises:
            InvalidRequest: naming ``param``: no sound, none that is taken here, too long, or too dear to decode.
            Unavailable: no process could be started, or somebody else stopped it: the system, where memory is short.
        """
        bounds = limits or self._limits
        container = sniff(data, param=param)
        order = audio_child.Order(len(data), container.demuxer, rate, bounds.seconds, bounds.memory, bounds.cpu)
        async with self._free:
            word, pcm = await self._ask(order, data, bounds)
        if word:
            raise _refusal(word, bounds, param)
        return Sound(pcm=pcm, rate=rate)

    async def close(self) -> None:
        while self._idle:
            self._idle.pop().stop()

    async def _ask(self, order: audio_child.Order, data: bytes, bounds: AudioLimits) -> tuple[str, bytes]:
        """A process that was killed while it was idle may look alive for a moment: another one is asked."""
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(_Killed):
                return await self._once(order, data, bounds)
        raise Unavailable("The process that decoded the sound was stopped.", retry_after=5)

    async def _once(self, order: audio_child.Order, data: bytes, bounds: AudioLimits) -> tuple[str, bytes]:
        child = self._waiting() or await _Child.started()
        done = False
        try:
            async with asyncio.timeout(bounds.wall):
                answer = await asyncio.to_thread(child.decode, order, data)
            done = True
        except TimeoutError:
            return _TOO_DEAR, b""
        except (EOFError, BrokenPipeError) as error:  # it was stopped by its limits, or fell over the bytes
            if await asyncio.to_thread(child.was_killed):
                raise _Killed from error
            return _TOO_DEAR, b""
        finally:
            if done and child.uses < USES:
                self._idle.append(child)
            else:
                child.stop()
        return answer

    def _waiting(self) -> _Child | None:
        """One that is left from before, and still there."""
        while self._idle:
            child = self._idle.pop()
            if child.lives:
                return child
            child.stop()
        return None


_TOO_DEAR = "too dear"
_MESSAGES = {
    audio_child.TOO_LONG: "The sound is longer than the {seconds:g} seconds that are taken here.",
    audio_child.NO_SOUND: "The file holds no sound.",
    audio_child.CODEC: f"The file's sound is coded in a way that is not taken here. Formats: {TAKEN}.",
    audio_child.SHAPE: "The sound has a sample rate or a number of channels that is not taken here.",
    audio_child.UNREADABLE: "The sound could not be decoded: the file is broken, or not what it seems.",
    _TOO_DEAR: "The sound could not be decoded within this server's limits of time and memory.",
}


def _refusal(word: str, bounds: AudioLimits, param: str) -> APIError:
    message = _MESSAGES.get(word, _MESSAGES[audio_child.UNREADABLE]).format(seconds=bounds.seconds)
    return InvalidRequest(message, param=param, code="invalid_audio")


class _Child:
    """One process; one thread at a time may ask it."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", "-m", audio_child.MODULE]
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        environment = {name: value for name, value in os.environ.items() if name in _ENVIRONMENT}
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, env=environment)  # noqa: S603
        self.stop = weakref.finalize(self, _stop, self._process)
        self.uses = 0

    @classmethod
    async def started(cls) -> _Child:
        """Raises ``Unavailable`` where the process does not come up."""
        try:
            child = cls()
        except OSError as error:
            raise Unavailable("No process to decode sound could be started.", retry_after=5) from error
        try:
            async with asyncio.timeout(_START_SECONDS):
                await asyncio.to_thread(child.hear)
        except (TimeoutError, EOFError) as error:
            child.stop()
            raise Unavailable("No process to decode sound could be started.", retry_after=5) from error
        except asyncio.CancelledError:
            child.stop()
            raise
        return child

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def was_killed(self) -> bool:
        """Whether it ended by a signal that none of its limits sends. For one that has closed its pipes."""
        try:
            return self._process.wait(_END_SECONDS) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            return False

    def hear(self) -> bytes:
        """The next message. Raises ``EOFError``."""
        if self._process.stdout is None:
            raise EOFError
        return audio_child.read(self._process.stdout)

    def decode(self, order: audio_child.Order, data: bytes) -> tuple[str, bytes]:
        """A word of ``audio_child`` and the samples. Raises ``EOFError`` and ``BrokenPipeError`` when the process ends."""
        self.uses += 1
        if self._process.stdin is None:
            raise EOFError
        audio_child.write(self._process.stdin, msgspec.msgpack.encode(order))
        self._process.stdin.write(data)
        self._process.stdin.flush()
        pieces: list[bytes] = []
        while piece := self.hear():
            pieces.append(piece)
        return self.hear().decode(), b"".join(pieces)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # what was still to be written to it
                pipe.close()
