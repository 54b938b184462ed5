"""Segments → subtitles: SubRip and WebVTT."""

from __future__ import annotations

from collections.abc import Sequence

from handlers.types import Segment


def to_srt(segments: Sequence[Segment]) -> str:
    cues = (
        f"{number}\n{_clock(segment.start, ',')} --> {_clock(segment.end, ',')}\n{_text(segment)}\n\n"
        for number, segment in enumerate(segments, start=1)
    )
    return "".join(cues)


def to_vtt(segments: Sequence[Segment]) -> str:
    cues = (f"{_clock(segment.start, '.')} --> {_clock(segment.end, '.')}\n{_text(segment)}\n\n" for segment in segments)
    return "WEBVTT\n\n" + "".join(cues)


def _text(segment: Segment) -> str:
    """On one line, and without the arrow that parts a cue's times: both would begin another cue."""
    return " ".join(segment.text.split()).replace("-->", "->")


def _clock(seconds: float, mark: str) -> str:
    """``01:02:03,456``; ``mark`` stands before the milliseconds."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}{mark}{milliseconds:03}"
