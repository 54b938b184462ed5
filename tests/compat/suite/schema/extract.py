"""Writes `openai.json`: what of OpenAI's OpenAPI document the answers and events that we check can reach.

    python schema/extract.py DOCUMENT.json

The document is https://github.com/openai/openai-openapi (MIT), in JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PREFIX = "#/components/schemas/"
ROOTS = (
    "CreateChatCompletionResponse",
    "CreateChatCompletionStreamResponse",
    "CreateCompletionResponse",
    "CreateEmbeddingResponse",
    "CreateModerationResponse",
    "CreateSpeechResponseStreamEvent",
    "CreateTranscriptionResponseJson",
    "CreateTranscriptionResponseStreamEvent",
    "CreateTranscriptionResponseVerboseJson",
    "CreateTranslationResponseJson",
    "CreateTranslationResponseVerboseJson",
    "ErrorResponse",
    "ImagesResponse",
    "ImageGenStreamEvent",
    "ImageEditStreamEvent",
    "ListModelsResponse",
    "Model",
    "Response",
    "ResponseItemList",
    "ResponseStreamEvent",
    "TokenCountsResource",
)
PROSE = frozenset(
    {"description", "example", "examples", "title", "deprecated", "default", "x-oaiMeta", "summary", "x-oaiTypeLabel"}
)


def main(source: str) -> None:
    document = json.loads(Path(source).read_text())
    schemas = document["components"]["schemas"]
    kept: dict[str, Any] = {}
    waiting = list(ROOTS)
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept[name] = bare(schemas[name])
            waiting += references(kept[name])
    info = {key: document["info"][key] for key in ("title", "version", "source") if key in document["info"]}
    lines = ",\n".join(f"{json.dumps(name)}:{json.dumps(kept[name], separators=(',', ':'))}" for name in sorted(kept))
    found = f'{{"info":{json.dumps({**info, "license": "MIT"})},\n"components":{{"schemas":{{\n{lines}\n}}}}}}\n'
    Path(__file__).with_name("openai.json").write_text(found)


def bare(schema: Any, *, names: bool = False) -> Any:
    """Without prose; ``names`` says that the keys here are a property's, which may be called `description`."""
    if isinstance(schema, list):
        return [bare(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: bare(value, names=key == "properties") for key, value in schema.items() if names or key not in PROSE}


def references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [name for part in schema for name in references(part)]
    if not isinstance(schema, dict):
        return []
    own = [schema["$ref"].removeprefix(PREFIX)] if isinstance(schema.get("$ref"), str) else []
    return own + [name for value in schema.values() for name in references(value)]


if __name__ == "__main__":
    main(sys.argv[1])
