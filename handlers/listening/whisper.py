"""Whisper by transformers: its own long-form ``generate``, listened to window by window.

``generate`` gives everything at the end and keeps the scores of every token until then. Two of its steps are wrapped, so that
segments are told as they are found, with the numbers they were judged by, and the scores are let go.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from handlers import types as t
from handlers.audio_families import Listener
from handlers.listening import pretrained
from handlers.listening.options import WhisperOptions
from handlers.listening.recording import (
    Progress,
    RunningText,
    compression_ratio,
    emit_segment,
    recording_of,
    refuse,
    refuse_silence_settings,
    temperatures,
    waveform,
)
from handlers.loading import options_of
from openai_compat.errors import InvalidRequest, ModelUnavailable, UnsupportedCapability, UnsupportedParameter

WINDOW = 30.0
FRAMES = 100
"""Frames of features a second."""
MOMENT = 20
SIGNS = frozenset("\"'.。,，!！?？:：”)]}、-") | {"..."}  # noqa: RUF001 -- as Whisper's authors list them
_HEAVY = ("scores", "logits", "cross_attentions", "decoder_attentions", "past_key_values")


class Config(Struct, frozen=True, kw_only=True):
    """How one recording is heard: arguments of ``generate``, and the languages that it may be in."""

    arguments: dict[str, Any]
    languages: tuple[str, ...] = ()


class Whisper(Listener):
    """Transcribes, and translates to English where the checkpoint knows other languages."""

    audio_rate = 16_000

    def __init__(self, spec: t.ModelSpec, report: t.LoadReport) -> None:
        self._id = spec.id
        self._options = options_of(spec, WhisperOptions)
        self._features = pretrained.load_part(spec, "AutoFeatureExtractor")
        self._tokenizer = pretrained.load_part(spec, "AutoTokenizer")
        self._model = pretrained.load(spec, "WhisperForConditionalGeneration", report)
        self._wishes = self._model.generation_config
        if getattr(self._wishes, "no_timestamps_token_id", None) is None:
            raise ModelUnavailable(f"The generation_config.json of '{spec.id}' says nothing of time marks.")
        self._codes = {token[2:-2]: number for token, number in (getattr(self._wishes, "lang_to_id", None) or {}).items()}
        self._multilingual = bool(getattr(self._wishes, "is_multilingual", bool(self._codes)))

    def check(self, request: t.Request) -> None:
        asked = recording_of(request, tasks=("transcribe", "translate"), model=self._id)
        if asked.task == "translate" and not self._multilingual:
            raise UnsupportedCapability(f"The model '{self._id}' knows English only, and cannot translate.", param="model")
        refuse(asked, {"keywords": "This model takes no keywords; a prompt can name them."})
        refuse_silence_settings(asked)
        if "word" in asked.timestamps and getattr(self._wishes, "alignment_heads", None) is None:
            message = f"The model '{self._id}' cannot tell the times of words."
            raise UnsupportedParameter(message, param="timestamp_granularities")
        known = self._codes if self._multilingual else {"en": 0}
        for code in (asked.language, *asked.languages):
            if code is not None and code not in known:
                param = "language" if code == asked.language else "languages"
                raise InvalidRequest(f"The model '{self._id}' does not know the language '{code}'.", param=param)

    def prepare(self, request: t.Request) -> Any:
        """Features of the whole recording; one shorter than a window is filled up with silence."""
        asked = recording_of(request, tasks=("transcribe", "translate"), model=self._id)
        long = asked.audio.seconds > WINDOW
        padding = {"truncation": False, "padding": "longest"} if long else {}
        found = self._features(
            waveform(asked.audio), sampling_rate=self.audio_rate, return_tensors="pt", return_attention_mask=True, **padding
        )
        return found.to(self._model.device, self._model.dtype), asked.audio.seconds

    def config(self, request: t.Request) -> Config:
        asked = recording_of(request, tasks=("transcribe", "translate"), model=self._id)
        arguments: dict[str, Any] = {
            "return_timestamps": True,
            "return_token_timestamps": True if "word" in asked.timestamps else None,
            "temperature": temperatures(asked.temperature),
            "condition_on_prev_tokens": self._options.condition_on_previous_text,
            "num_beams": self._options.beam_size or 1,
            "compression_ratio_threshold": 2.4,
            "logprob_threshold": -1.0,
            "no_speech_threshold": 0.6,
            "prompt_ids": self._prompt_ids(asked.prompt),
        }
        if self._multilingual:
            arguments |= {"task": asked.task, "language": asked.language}
        return Config(arguments=arguments, languages=() if asked.language else tuple(dict.fromkeys(asked.languages)))

    def hear(self, inputs: Any, config: Config, ctx: t.RunContext) -> t.TranscriptResult:
        import torch

        features, seconds = inputs
        ear = _Ear(self._model, self._tokenizer, self._codes, seconds, ctx, Progress(seconds, model=self._id))
        with torch.inference_mode():
            language = self._likeliest(features["input_features"], config)
            told = {"language": language} if language else {}
            with ear.listening():
                self._model.generate(
                    **features,
                    return_segments=True,
                    monitor_progress=ear.at_window,
                    stopping_criteria=[ear.at_token],
                    **{**config.arguments, **told},
                )
        return t.TranscriptResult(
            text=ear.text.text,
            language=ear.language if self._multilingual else "en",
            duration=seconds,
            segments=tuple(ear.segments),
            usage=t.Usage(
                prompt_tokens=round(seconds * FRAMES / 2), completion_tokens=sum(len(s.tokens) for s in ear.segments)
            ),
        )

    def _likeliest(self, features: Any, config: Config) -> str | None:
        """The likeliest of the languages that it may be in, by the first window; None where any will do."""
        import torch

        if len(config.languages) < 2:
            return config.languages[0] if config.languages else None
        window = torch.nn.functional.pad(features[..., : int(WINDOW * FRAMES)], (0, max(0, 3000 - features.shape[-1])))
        start = torch.tensor([[self._wishes.decoder_start_token_id]], device=features.device)
        scores = self._model(input_features=window, decoder_input_ids=start).logits[0, -1]
        return max(config.languages, key=lambda code: float(scores[self._codes[code]]))

    def _prompt_ids(self, prompt: str | None) -> Any:
        """The prompt's last tokens, as many as the model looks back."""
        if not prompt:
            return None
        try:
            ids = self._tokenizer.get_prompt_ids(prompt, return_tensors="pt")
        except ValueError as error:
            raise InvalidRequest("The prompt holds a mark that only the model may write.", param="prompt") from error
        import torch

        most = self._model.config.max_target_positions // 2 - 1
        return torch.cat([ids[:1], ids[1:][-most:]]).to(self._model.device)


class _Ear:
    """What one call of ``generate`` finds, segment by segment."""

    def __init__(
        self, model: Any, tokenizer: Any, codes: dict[str, int], seconds: float, ctx: t.RunContext, progress: Progress
    ) -> None:
        self.text = RunningText()
        self.segments: list[t.Segment] = []
        self._model = model
        self._tokenizer = tokenizer
        self._codes = codes
        self._seconds = seconds
        self._ctx = ctx
        self._progress = progress
        self._begin: list[int] = []
        self._judged: dict[str, float] = {}
        self._seek = 0
        self._encoded: tuple[Any, Any] | None = None

    @property
    def language(self) -> str | None:
        """The code whose token the decoder began with."""
        return next((code for code, number in self._codes.items() if number in self._begin), None)

    def at_window(self, progress: Any) -> None:
        self._seek = int(progress[0, 0])
        self._progress.at(self._seek / FRAMES)
        self._ctx.check()

    def at_token(self, tokens: Any, scores: Any, **_: Any) -> Any:
        """A stopping criterion that stops nothing, unless nobody waits any more."""
        import torch

        self._ctx.check()
        return torch.zeros(tokens.shape[0], dtype=torch.bool, device=tokens.device)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """``generate`` tells this ear what it finds; times of words leave the model's attention as it was."""
        model = self._model
        attention = model.model.config._attn_implementation
        model.generate_with_fallback, model._retrieve_segment = self._decode, self._retrieve
        model.model.encoder.forward = self._encode
        try:
            yield
        finally:
            del model.generate_with_fallback, model._retrieve_segment, model.model.encoder.forward
            model.model.config._attn_implementation = attention

    def _encode(self, input_features: Any, *given: Any, **named: Any) -> Any:
        """Each window once: ``generate`` encodes it for its language, for its silence, and again at each temperature."""
        last = self._encoded
        if last is None or last[0].shape != input_features.shape or not bool((last[0] == input_features).all()):
            encoder = self._model.model.encoder
            self._encoded = last = (input_features, type(encoder).forward(encoder, input_features, *given, **named))
        return last[1]

    def _decode(self, **given: Any) -> Any:
        """Note what a window was judged by, and let go of what it was computed from."""
        found = type(self._model).generate_with_fallback(self._model, **given)
        sequences, outputs = found[0], found[1]
        config, processors = given["generation_config"], given["logits_processor"]
        temperature = config.temperature if config.do_sample else 0.0
        self._begin = given["decoder_input_ids"][0].tolist()
        self._judged = {
            "temperature": float(temperature),
            "avg_logprob": _mean_logprob(self._model, outputs[0], sequences[0], temperature),
            "no_speech_prob": _no_speech(processors),
        }
        for name in _HEAVY:
            outputs[0].pop(name, None)
        return found

    def _retrieve(self, **given: Any) -> Any:
        """Where less than a moment is left, the silence that fills the last window is not heard: nothing is in it."""
        segments, offset = type(self._model)._retrieve_segment(**given)
        for segment in segments:
            self._keep(segment)
        left = self._seconds * FRAMES - self._seek - int(offset)
        return segments, offset if left >= MOMENT else given["seek_num_frames"][given["prev_idx"]]

    def _keep(self, raw: dict[str, Any]) -> None:
        tokens = raw["tokens"].tolist()
        text = self._tokenizer.decode(tokens, skip_special_tokens=True)
        start, end = float(raw["start"]), min(float(raw["end"]), self._seconds)
        if not text.strip() or start >= end:
            return
        segment = t.Segment(
            start=start,
            end=end,
            text=text,
            words=self._words(tokens, start, raw.get("token_timestamps")),
            tokens=tuple(tokens),
            seek=self._seek,
            compression_ratio=compression_ratio(text),
            **self._judged,
        )
        self.segments.append(segment)
        emit_segment(segment, self.text, self._ctx)

    def _words(self, tokens: list[int], start: float, times: Any) -> tuple[t.Word, ...]:
        """Words as transformers puts them together, at the times that Whisper's authors give them.

        A token's own time is when it was read, and so the end of what it says; what it says began with the token before.
        (transformers' pipeline takes it for the beginning, which is a token late.)
        """
        if times is None:
            return ()
        from transformers.models.whisper.tokenization_whisper import LANGUAGES, _combine_tokens_into_words

        name = LANGUAGES.get(self.language or "", "english")
        marks = self._tokenizer.convert_tokens_to_ids("<|notimestamps|>")
        spans = list(zip([start, *map(float, times)], map(float, times), strict=False))
        plain = [(token, span) for token, span in zip(tokens, spans, strict=True) if token < marks]
        words, ids, places = _combine_tokens_into_words(self._tokenizer, [token for token, _ in plain], name)
        return tuple(
            t.Word(start=round(plain[place[0]][1][0], 2), end=round(plain[self._last(place, own)][1][1], 2), text=word)
            for word, own, place in zip(words, ids, places, strict=True)
        )

    def _last(self, places: list[int], tokens: list[int]) -> int:
        """Where the word's last token is that is no punctuation; the pause after a comma is not the word's."""
        spoken = (
            place for place, token in zip(places, tokens, strict=True) if self._tokenizer.decode([token]).strip() not in SIGNS
        )
        return max(spoken, default=places[-1])


def _mean_logprob(model: Any, output: dict[str, Any], sequence: Any, temperature: float) -> float:
    if "sequences_scores" in output:
        return float(output["sequences_scores"])
    if "scores" not in output or not len(sequence):
        return 0.0
    return float(type(model)._retrieve_avg_logprobs(output["scores"], sequence, temperature))


def _no_speech(processors: Any) -> float:
    found = next((one.no_speech_prob for one in processors or () if hasattr(one, "no_speech_prob")), None)
    return 0.0 if found is None else float(found[0])
