"""From a chat with pictures and sounds to token ids and what the model is given beside them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from handlers import types as t
from handlers.decoding.probe import Trial
from handlers.decoding.ticket import Prompt
from handlers.mixing.media import MARK, Media, closeness, taken_out, to_image, to_samples
from handlers.mixing.processor import InertTokenizer, control_texts, hidden, placeholder, preamble
from handlers.mixing.reader import MediaReader
from handlers.modes import last_user
from handlers.prompts import PromptBuilder
from openai_compat.errors import InvalidRequest

_SPECIMEN = t.Picture(width=64, height=64, pixels=bytes(range(256)) * 48)
_NOISE = bytes(range(256)) * 125
_NOT_INPUTS = frozenset({"input_ids", "attention_mask", "labels"})


class MediaPromptBuilder(PromptBuilder):
    """Makes prompts for a model with a processor; ``dtype`` and ``device`` are those of the model's inputs."""

    def __init__(self, vocabulary: Any, template: Any, processor: Any, *, dtype: Any, device: Any, **options: Any) -> None:
        super().__init__(vocabulary, template, control=control_texts(processor), **options)
        self._processor = processor
        self._dtype = dtype
        self._device = device
        self._reader: MediaReader | None = None
        processor.tokenizer = InertTokenizer(vocabulary.tokenizer, lambda text, start: self._tokens(text, start=start))

    def read_with(self, reader: MediaReader) -> None:
        """Let prompts hold what is made of their media, for the engine, in place of what the whole model is given."""
        self._reader = reader

    def trial(self, medium: str, reader: MediaReader) -> Trial:
        """A prompt to try the model with."""
        part: t.Part = t.ImagePart(picture=_SPECIMEN)
        if medium == "audio":
            part = t.AudioPart(sound=t.Sound(pcm=_NOISE, rate=self._processor.feature_extractor.sampling_rate))
        message = t.Message(role="user", parts=(part, t.TextPart(text="What is this?")))
        prompt = self._chat((message,), t.TextRequest(messages=(message,)))
        embedded = reader.read(prompt.ids, prompt.inputs, "")
        return Trial(ids=prompt.ids, inputs=prompt.inputs, embedded=embedded, beside=reader.beside(prompt.ids, prompt.inputs))

    @property
    def picture_start_id(self) -> int | None:
        """The token behind which a picture is painted."""
        number: int | None = self._tokenizer.convert_tokens_to_ids(self._processor.image_start_token)
        return number

    def to_paint(self, prompt: str, *, codes: int) -> Prompt:
        """What a picture of ``codes`` tokens continues: the prompt as a chat's only message where there is a template."""
        words = t.Message(role="user", parts=(t.TextPart(text=prompt),))
        text = self._mark_text(prompt)
        if self._template is not None:
            text = self._rendered((words,), t.TextRequest(messages=(words,)))
        text += self._processor.image_start_token
        ids = self._tokens(text, start=self._needs_start(text))
        return Prompt(ids=tuple(ids), text=self._marked.sub(r"\1", text), limit=codes)

    def _continued(self, messages: tuple[t.Message, ...], request: t.TextRequest) -> Prompt:
        """The last user text, with the pictures and sounds of its message where they stood."""
        where = last_user(messages)
        own, media = taken_out(messages[where : where + 1]) if where is not None else ((), Media())
        if not media:
            return super()._continued(messages, request)
        return self._mixed(self._with_placeholders(self._mark(own[0]).text), media, request)

    def _chat(self, messages: tuple[t.Message, ...], request: t.TextRequest) -> Prompt:
        messages, media = taken_out(messages)
        if not media:
            return self._worded(preamble(self._processor) + self._rendered(messages, request), request)
        return self._mixed(self._with_placeholders(self._rendered(messages, request)), media, request)

    def _needs_start(self, text: str) -> bool:
        """As processors have it: what begins a text is added where the template has not written it."""
        begin = self._tokenizer.bos_token
        return not (begin and text.startswith(begin))

    def _with_placeholders(self, text: str) -> str:
        """Marks that the template has left are replaced here."""
        return MARK.sub(lambda match: placeholder(self._processor, match[1]), text)

    def _mixed(self, text: str, media: Media, request: t.TextRequest) -> Prompt:
        self._check_size(text, request)
        self._check_count(text, media)
        inputs = self._read(hidden(text, self._marked), media)
        ids = inputs["input_ids"][0].tolist()
        prompt = self._prompt(ids, self._marked.sub(r"\1", text), request)
        if request.counted:
            return prompt
        placed = self._placed(inputs)
        if self._reader is None:
            return replace(prompt, inputs=placed)
        return replace(prompt, embedded=self._reader.read(prompt.ids, placed, request.cache_salt))

    def _check_count(self, text: str, media: Media) -> None:
        plain = self._marked.sub("", text)
        for medium, parts in (("image", media.pictures), ("audio", media.sounds)):
            if parts and plain.count(placeholder(self._processor, medium)) != len(parts):
                raise InvalidRequest("The model's chat template leaves out pictures or sounds of this chat.", param="messages")

    def _read(self, text: str, media: Media) -> Any:
        """Raises ``InvalidRequest`` for what the processor cannot read, such as a picture of one row of pixels."""
        given: dict[str, Any] = {"add_special_tokens": self._needs_start(text)}
        if media.pictures:
            given["images"] = [[to_image(part.picture) for part in media.pictures]]
            given |= closeness(self._processor.image_processor, media.pictures)
        if media.sounds:
            self._check_lengths(media)
            given["audio"] = [to_samples(part.sound) for part in media.sounds]
            given["sampling_rate"] = media.sounds[0].sound.rate
        try:
            return self._processor(text=[text], return_tensors="pt", **given)
        except ValueError as error:
            raise InvalidRequest("The model cannot read these pictures or sounds.", param="messages") from error

    def _check_lengths(self, media: Media) -> None:
        """A feature extractor would silently leave out what lies behind its window."""
        longest = getattr(self._processor.feature_extractor, "chunk_length", None)
        if longest and any(part.sound.seconds > longest for part in media.sounds):
            raise InvalidRequest(f"The model hears {longest} seconds of a recording at most.", param="messages")

    def _placed(self, inputs: Any) -> dict[str, Any]:
        """On the model's device, numbers that are not whole in its type."""
        return {
            name: value.to(self._device, self._dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
            if name not in _NOT_INPUTS
        }
