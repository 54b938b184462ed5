"""The JSON files beside weights: a forbidden key is found wherever it stands and however it is spelled."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from handlers.headers import BadHeader
from openai_compat.gateway.scan.json_keys import FORBIDDEN, check_json


def fuzz(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_bytes(data)
        try:
            check_json(path)
        except BadHeader as error:
            str(error).encode(errors="surrogatepass")
            return
    assert not any(key in FORBIDDEN for key in keys(json.loads(data)))


def keys(tree: Any) -> set[str]:
    found: set[str] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            found |= set(node)
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
    return found
