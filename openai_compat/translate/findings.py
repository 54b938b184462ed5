"""What was found in pictures, as `/v1/vision/*` and chats answer it.

Masks and depths are encoded here, which takes time: keep it off the event loop.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET

from handlers import types as t
from openai_compat.translate.runs import compressed, run_lengths, stretched
from schemas.vision import DepthAnswer, DepthMap, Finding, Findings, FoundBox, RunLengths, VisionList

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, Any]

MaskFormat: TypeAlias = Literal["png", "rle"]
DepthFormat: TypeAlias = Literal["png16", "float32"]
_OBJECTS: dict[t.VisionTask, Any] = {
    "classify": "vision.classification",
    "detect": "vision.detection",
    "segment": "vision.segmentation",
}
_STEPS = 65_535
MOST_DEPTHS = 1 << 20
"""Pixels of a depth map in a chat, where a stream holds it as one piece."""
Size: TypeAlias = tuple[int, int]
_encode = msgspec.json.Encoder().encode


def worded(result: t.SightResult, model: str) -> t.TextResult:
    """A chat's answer: one picture's findings as a JSON object, several as a list of such, in the pictures' order."""
    answers = [_answer(sighting, model) for sighting in result.sightings]
    text = _encode(answers[0] if len(answers) == 1 else VisionList(data=answers)).decode()
    return t.TextResult(choices=(t.TextChoice(index=0, text=text, finish_reason="stop"),), usage=result.usage)


def _answer(sighting: t.Sighting, model: str) -> Findings | DepthAnswer:
    size = sighting.width, sighting.height
    if isinstance(sighting.found, t.DepthResult):
        return depth_of(sighting.found, size, model=model, form="png16", most=MOST_DEPTHS)
    return findings_of(sighting.found, size, model=model, masks="rle")


def findings_of(result: t.LabelResult, size: Size, *, model: str, masks: MaskFormat) -> Findings:
    """``size``: width and height of the picture that was sent. A large mask takes tens of milliseconds."""
    labels = [_finding(label, size, masks) for label in result.labels]
    return Findings(object=_OBJECTS[result.task], model=model, width=size[0], height=size[1], labels=labels)


def depth_of(result: t.DepthResult, size: Size, *, model: str, form: DepthFormat, most: int | None = None) -> DepthAnswer:
    """``most``: pixels that the map may have; of a larger one every second is left out, or more."""
    import numpy as np

    values: Array = np.frombuffer(result.values, dtype="<f4").reshape(result.height, result.width)
    while most is not None and values.size > most:
        values = values[::2, ::2]
    low, high = float(values.min()), float(values.max())
    data = values.tobytes() if form == "float32" else _png16(values, low, high)
    rows, columns = values.shape
    depth = DepthMap(format=form, width=columns, height=rows, min=low, max=high, data=base64.b64encode(data).decode())
    return DepthAnswer(model=model, width=size[0], height=size[1], metric=result.metric, depth=depth)


def _finding(label: t.Label, size: Size, form: MaskFormat) -> Finding:
    box = UNSET if label.box is None else FoundBox(**dict(zip(FoundBox.__struct_fields__, _rounded(label.box), strict=True)))
    mask = UNSET if label.mask is None else _mask(label.mask, size, form)
    return Finding(label=label.label, score=label.score, box=box, mask=mask)


def _rounded(box: t.Box) -> list[float]:
    """To hundredths of a pixel."""
    return [round(edge, 2) for edge in box]


def _mask(mask: t.Picture, size: Size, form: MaskFormat) -> str | RunLengths:
    import numpy as np

    width, height = size
    array: Array = np.frombuffer(mask.pixels, dtype=np.uint8).reshape(mask.height, mask.width)
    array = stretched(array, width, height)
    if form == "rle":
        return RunLengths(size=(height, width), counts=compressed(run_lengths(array)))
    return base64.b64encode(_png(array)).decode()


def _png(array: Array) -> bytes:
    """Of two colours, one bit a pixel would do; eight are what every program takes for a mask."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _png16(values: Array, low: float, high: float) -> bytes:
    import numpy as np

    span = (high - low) or 1.0
    return _png(np.rint((values - low) / span * _STEPS).astype(np.uint16))
