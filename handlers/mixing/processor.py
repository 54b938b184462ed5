"""The library's processor of a model: found, loaded without what it needs for videos, and kept from reading clients' words.

A processor looks for placeholders in the prompt's text and puts each medium's tokens in their place. Control tokens that a
client wrote are hidden from it, and brought back when the text becomes tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from handlers.analyze import read_json
from handlers.prompts import CLOSE, OPEN
from openai_compat.errors import ModelUnavailable

_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
_NAMES = ("image_token", "audio_token", "video_token", "boi_token", "eoi_token", "start_image_token", "end_image_token")
_SHIFT = 0xF0000
_HIDDEN = re.compile(f"{OPEN}([\U000f0000-\U000ffffd]+){CLOSE}")

Encode = Callable[[str, bool], list[int]]


def load_processor(path: str, config: Any, **options: Any) -> Any:
    """Raises ``ModelUnavailable`` where the library has none for the model."""
    cls = _class_of(path, config)
    return (cls if find_spec("torchvision") else without_videos(cls)).from_pretrained(path, **options)


def placeholder(processor: Any, medium: str) -> str:
    """What stands for a picture or sound in a prompt's text."""
    return str(getattr(processor, f"{medium}_token"))


def preamble(processor: Any) -> str:
    """What the processor of some Janus puts before a chat by itself, where it reads one."""
    if not getattr(processor, "use_default_system_prompt", False):
        return ""
    from transformers.models.janus.processing_janus import DEFAULT_SYSTEM_PROMPT

    return str(DEFAULT_SYSTEM_PROMPT)


def control_texts(processor: Any) -> tuple[str, ...]:
    """Placeholders and what stands around them, whether or not the tokenizer calls them special."""
    owners = (processor, processor.tokenizer)
    found = (getattr(owner, name, None) for owner in owners for name in _NAMES)
    return tuple({text for text in found if isinstance(text, str) and text})


def hidden(text: str, marked: re.Pattern[str]) -> str:
    """The text with what is marked in it moved to letters that no processor looks for."""
    return marked.sub(lambda match: OPEN + "".join(chr(_SHIFT + ord(letter)) for letter in match[1]) + CLOSE, text)


class InertTokenizer:
    """Stands in a processor in its tokenizer's place.

    Args:
        encode: ids of a text with marks in it, told whether the text's beginning is to be added.
    """

    def __init__(self, tokenizer: Any, encode: Encode) -> None:
        self._tokenizer = tokenizer
        self._encode = encode

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: list[str], **options: Any) -> Any:
        """Lists, which the processor makes tensors of in the end: some look at them as arrays before."""
        options.pop("return_tensors", None)
        if not any(_HIDDEN.search(one) for one in text):
            return self._tokenizer(text, **options)
        start = bool(options.get("add_special_tokens", True))
        ids = [self._encode(_HIDDEN.sub(_restored, one), start) for one in text]
        columns = {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}
        if options.get("return_token_type_ids"):
            columns["token_type_ids"] = [[0] * len(row) for row in ids]
        return _Encoding(columns)


class _Encoding(dict[str, Any]):
    def char_to_token(self, row: int, place: int) -> int:
        """Some processors ask for places that only training needs."""
        return 0


def _restored(match: re.Match[str]) -> str:
    return OPEN + "".join(chr(ord(letter) - _SHIFT) for letter in match[1]) + CLOSE


def _class_of(path: str, config: Any) -> Any:
    """The class that the files name, if it is one of the library's, else the usual one for the configuration."""
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    names = (read_json(Path(path, file)).get("processor_class") for file in _FILES)
    named = getattr(transformers, next((name for name in names if isinstance(name, str)), ""), None)
    if isinstance(named, type) and issubclass(named, transformers.ProcessorMixin):
        return named
    if type(config) in PROCESSOR_MAPPING:
        return PROCESSOR_MAPPING[type(config)]
    raise ModelUnavailable("The model's files name no processor that is known.")


def without_videos(cls: Any) -> Any:
    """The same class but for its part for videos, which would need a library that is not here."""

    def get_attributes(own: Any) -> list[str]:
        return [name for name in cls.get_attributes() if "video" not in name]

    return type(cls.__name__, (cls,), {"get_attributes": classmethod(get_attributes)})
