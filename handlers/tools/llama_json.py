"""Llama 3: ``{"name": …, "parameters": {…}}``, alone or behind ``<|python_tag|>``, with semicolons between calls."""

from __future__ import annotations

from handlers.tools.calls import call_objects
from handlers.tools.reader import Reader, Step

_TAG = "<|python_tag|>"


class LlamaJson:
    marks = (_TAG,)
    starts = ("{", "[")
    tokens = (_TAG,)

    def calls(self, r: Reader, mark: str) -> Step[None]:
        if mark != _TAG:
            r.back(mark)
        yield from call_objects(r, bare=mark != _TAG)
