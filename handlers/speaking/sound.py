"""Waves: what models make (numbers from -1 to 1), what is sent (16 bit), and the same at another speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from handlers import types as t

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PEAK = 32767.0


class Wave(Struct, frozen=True):
    """Samples from -1 to 1, one row a channel (or none for the only one), ``rate`` a second."""

    samples: NDArray[np.float32]
    rate: int


class Made(Struct, frozen=True):
    """The end of a sound: its seconds, and the tokens that the model read and made, where it works in tokens."""

    seconds: float
    read: int = 0
    made: int = 0


def finished(raw: Any) -> t.SoundDelta | t.SoundResult:
    """What a backend's ``finish`` gives."""
    if isinstance(raw, Wave):
        return t.SoundDelta(sound=to_sound(raw))
    return t.SoundResult(seconds=raw.seconds, usage=t.Usage(prompt_tokens=raw.read, completion_tokens=raw.made))


def to_sound(wave: Wave) -> t.Sound:
    """What is louder than can be said in 16 bit is cut off."""
    import numpy as np

    rows = np.atleast_2d(wave.samples)
    whole = np.rint(np.clip(rows, -1.0, 1.0) * _PEAK).astype("<i2")
    return t.Sound(pcm=np.ascontiguousarray(whole.T).tobytes(), rate=wave.rate, channels=len(rows))


def silence(seconds: float, rate: int) -> NDArray[np.float32]:
    import numpy as np

    return np.zeros(round(seconds * rate), dtype=np.float32)


def loudest(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """As loud as it can be without distortion; silence stays silence."""
    import numpy as np

    peak = float(np.max(np.abs(samples), initial=0.0))
    return (samples / max(0.01, peak)).astype(np.float32)


def stretched(samples: NDArray[np.float32], rate: int, speed: float) -> NDArray[np.float32]:
    """One channel at ``speed`` times its own, at the same pitch; what is too short to have a pitch stays as it is."""
    import numpy as np
    from av import AudioFrame

    graph = _tempo(rate, speed)
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples, dtype=np.float32)[None, :], format="flt", layout="mono")
    frame.sample_rate = rate
    graph.push(frame)
    graph.push(None)
    pieces = [piece.to_ndarray()[0] for piece in _pulled(graph)]
    return np.concatenate(pieces) if pieces else samples


def _tempo(rate: int, speed: float) -> Any:
    """A chain of filters: one goes down to half the speed only."""
    from av.filter import Graph

    graph = Graph()
    last = graph.add("abuffer", sample_rate=str(rate), sample_fmt="flt", channel_layout="mono", time_base=f"1/{rate}")
    factors = [speed] if speed >= 0.5 else [0.5, speed / 0.5]
    stages = [graph.add("atempo", str(factor)) for factor in factors]
    stages += [graph.add("aformat", "sample_fmts=flt"), graph.add("abuffersink")]
    for stage in stages:
        last.link_to(stage)
        last = stage
    graph.configure()
    return graph


def _pulled(graph: Any) -> Any:
    from av import FFmpegError

    while True:
        try:
            yield graph.pull()
        except (BlockingIOError, EOFError, FFmpegError):
            return
