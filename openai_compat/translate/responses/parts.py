"""The parts of an item's content: the many ways in which clients write them → one way each."""

from __future__ import annotations

from typing import Any

from openai_compat.errors import UnsupportedParameter
from openai_compat.translate.responses.reading import (
    a_list,
    a_name,
    a_text,
    an_object,
    missing,
    wrong_value,
)

MAX_PARTS = 1024
_TEXTS = frozenset({"input_text", "output_text", "text"})
_IMAGES = frozenset({"input_image", "image_url"})
_KNOWN = _TEXTS | _IMAGES | {"input_audio", "input_file", "refusal", "file"}


def said_parts(content: Any, where: str) -> list[dict[str, Any]]:
    """Of a message that the model wrote."""
    return [_said(part, spot) for part, spot in _parts_of(content, where)]


def given_parts(content: Any, where: str) -> list[dict[str, Any]]:
    """Of a message to the model, or of a tool's output."""
    return [_given(part, spot) for part, spot in _parts_of(content, where)]


def are_parts(value: Any) -> bool:
    """Whether a tool's output is a list of parts, and no data of its own."""
    return isinstance(value, list) and all(isinstance(part, dict) and part.get("type") in _KNOWN for part in value)


def _parts_of(content: Any, where: str) -> list[tuple[dict[str, Any], str]]:
    if content is None:
        return []
    if isinstance(content, str):
        return [({"type": "text", "text": content}, where)]
    spots = [f"{where}[{number}]" for number in range(len(a_list(content, where, MAX_PARTS)))]
    return [(an_object(part, spot), spot) for part, spot in zip(content, spots, strict=True)]


def _said(part: dict[str, Any], where: str) -> dict[str, Any]:
    kind = a_name(part.get("type"), f"{where}.type")
    if kind == "refusal":
        return {"type": "refusal", "refusal": a_text(part.get("refusal"), f"{where}.refusal")}
    if kind not in _TEXTS:
        raise wrong_value("an assistant's message holds 'output_text' and 'refusal'.", f"{where}.type")
    text = a_text(part.get("text"), f"{where}.text")
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _given(part: dict[str, Any], where: str) -> dict[str, Any]:
    kind = a_name(part.get("type"), f"{where}.type")
    if kind in _TEXTS:
        return {"type": "input_text", "text": a_text(part.get("text"), f"{where}.text")}
    if kind in _IMAGES:
        return _image(part, where)
    if kind == "input_audio":
        return _audio(part, f"{where}.input_audio")
    if kind in ("input_file", "file"):
        raise UnsupportedParameter("Files are not supported; send their text.", param=where)
    raise wrong_value("this kind of content is not supported.", f"{where}.type")


def _image(part: dict[str, Any], where: str) -> dict[str, Any]:
    image: Any = part.get("image_url")
    detail: Any = part.get("detail")
    if isinstance(image, dict):
        image, detail = image.get("url"), image.get("detail", detail)
    if image is None and part.get("file_id") is not None:
        raise UnsupportedParameter("Files are not kept; send the image as a data URL.", param=f"{where}.file_id")
    if image is None:
        raise missing(f"{where}.image_url")
    level = "auto" if detail is None else a_name(detail, f"{where}.detail", 32)
    return {"type": "input_image", "image_url": a_text(image, f"{where}.image_url"), "detail": level}


def _audio(part: dict[str, Any], where: str) -> dict[str, Any]:
    audio = an_object(part.get("input_audio"), where)
    form: Any = audio.get("format")
    inner = {"data": a_text(audio.get("data"), f"{where}.data")}
    if form is not None:
        inner["format"] = a_name(form, f"{where}.format", 32)
    return {"type": "input_audio", "input_audio": inner}
