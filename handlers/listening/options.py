"""What an operator may set of a listening model, beside what the server takes of any."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``max_audio_seconds`` is kept by the server, before a handler sees anything."""

    max_audio_seconds: Annotated[float, Meta(gt=0)] | None = None


class WhisperOptions(Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``beam_size`` is each backend's own if not given. With ``condition_on_previous_text`` each window is shown what was
    heard before it."""

    beam_size: Annotated[int, Meta(ge=1, le=16)] | None = None
    condition_on_previous_text: bool = True


class FasterWhisperOptions(WhisperOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``compute_type`` is one of CTranslate2's. ``voice_activity`` leaves out silence without being asked to."""

    compute_type: str | None = None
    voice_activity: bool = False
