import numpy as np
import pytest

from handlers.speaking.sound import Wave, loudest, silence, stretched, to_sound

RATE = 16_000


def tone(seconds: float = 2.0, hertz: float = 300.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32) / 2


def hertz_of(samples: np.ndarray) -> float:
    middle = samples[len(samples) // 4 : 3 * len(samples) // 4]
    return float(((middle[:-1] < 0) & (middle[1:] >= 0)).sum() * RATE / len(middle))


@pytest.mark.parametrize("speed", [0.25, 0.4, 0.5, 0.9, 1.5, 2.0, 4.0])
def test_another_speed_has_the_same_pitch(speed: float) -> None:
    fast = stretched(tone(), RATE, speed)
    assert len(fast) / RATE == pytest.approx(2.0 / speed, rel=0.05)
    assert hertz_of(fast) == pytest.approx(300, rel=0.03)
    assert fast.dtype == np.float32


def test_what_is_too_short_to_be_stretched_stays() -> None:
    assert stretched(tone(0.001), RATE, 2.0).size


def test_samples_become_16_bit_and_what_is_too_loud_is_cut() -> None:
    sound = to_sound(Wave(np.array([0.0, 0.5, 1.0, -1.0, 2.0, -2.0], dtype=np.float32), RATE))
    assert np.frombuffer(sound.pcm, dtype="<i2").tolist() == [0, 16384, 32767, -32767, 32767, -32767]


def test_channels_are_interleaved() -> None:
    sound = to_sound(Wave(np.array([[0.0, 1.0], [-1.0, 0.5]], dtype=np.float32), RATE))
    assert (sound.channels, np.frombuffer(sound.pcm, dtype="<i2").tolist()) == (2, [0, -32767, 32767, 16384])


def test_the_loudest_is_full_scale_and_silence_stays_silent() -> None:
    assert np.abs(loudest(tone())).max() == pytest.approx(1.0)
    assert not loudest(silence(0.5, RATE)).any()
    assert loudest(np.zeros(0, dtype=np.float32)).size == 0
    assert len(silence(0.5, RATE)) == RATE // 2
