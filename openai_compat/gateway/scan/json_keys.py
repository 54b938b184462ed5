"""JSON of a model must not name code: keys by which a library would import or fetch some are refused, however deep they stand.

Small files are parsed. Large ones (a tokenizer may have 30 MB) are searched for the keys in any spelling that JSON has for
them, and parsed only where something is found; so the gateway's memory stays flat.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from handlers.headers import BadHeader

FORBIDDEN = ("auto_map", "custom_pipeline", "trust_remote_code")
INTERNAL = re.compile(r"_.*_internal", re.DOTALL)
# a repository in one of these is a kernel: code that transformers fetches and runs
IMPLEMENTATIONS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")
MAX_BYTES = 512 * 2**20
PARSED_BYTES = 4 * 2**20
MAX_SUSPECT_BYTES = 64 * 2**20
MAX_DEPTH = 100
# maps from token to number: their keys are text, and no library takes them for settings
VOCABULARIES = {"vocab.json": (), "added_tokens.json": (), "tokenizer.json": ("model", "vocab")}


def check_json(path: Path) -> None:
    """Raises ``BadHeader`` for a forbidden key, for what is not JSON, and for nesting over 100 levels."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise BadHeader(path, f"{size} bytes of JSON are over the limit of {MAX_BYTES}")
    raw = path.read_bytes()
    if size > PARSED_BYTES:
        if not _suspect().search(raw):
            return
        if size > MAX_SUSPECT_BYTES:
            raise BadHeader(path, "it names a forbidden key and is too large to look at closely")
    _check_tree(path, _parse(path, raw))


def _parse(path: Path, raw: bytes) -> Any:
    try:
        return json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise BadHeader(path, "this is not valid JSON") from error


def _check_tree(path: Path, tree: Any) -> None:
    vocabulary = VOCABULARIES.get(path.name)
    stack: list[tuple[tuple[str, ...], Any]] = [((), tree)]
    while stack:
        trail, node = stack.pop()
        if len(trail) > MAX_DEPTH:
            raise BadHeader(path, f"its JSON is nested over {MAX_DEPTH} levels deep")
        if trail == vocabulary and _is_vocabulary(node):
            continue
        if isinstance(node, dict):
            _check_keys(path, node)
            _check_implementations(path, node)
        stack.extend(((*trail, key), child) for key, child in _children(node))


def _is_vocabulary(node: Any) -> bool:
    return isinstance(node, dict) and all(type(value) is int for value in node.values())


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        yield from ((key, value) for key, value in node.items() if isinstance(value, dict | list))
    elif isinstance(node, list):
        yield from (("[]", value) for value in node if isinstance(value, dict | list))


def _check_keys(path: Path, node: dict[str, Any]) -> None:
    for key in node:
        if key in FORBIDDEN or INTERNAL.fullmatch(key):
            raise BadHeader(path, f"the key {key[:80]!r} may bring code along; such models are not loaded")


def _check_implementations(path: Path, node: dict[str, Any]) -> None:
    """A name of an implementation, or one for each part of the model."""
    for key in IMPLEMENTATIONS:
        value = node.get(key)
        names = value.values() if isinstance(value, dict) else (value,)
        if any("/" in name for name in names if isinstance(name, str)):
            raise BadHeader(path, f"the value of {key!r} would bring code along; such models are not loaded")


def _suspect() -> re.Pattern[bytes]:
    """The forbidden keys, each letter as itself or as its ``\\u`` escape."""
    words = [_spelled(word) for word in (*FORBIDDEN, *IMPLEMENTATIONS)]
    internal = _spelled("_") + rb'[^"]{0,200}' + _spelled("_internal")
    return re.compile(b'"(?:' + b"|".join((*words, internal)) + b')"')


def _spelled(word: str) -> bytes:
    return b"".join(b"(?:%s|\\\\u00(?i:%02x))" % (re.escape(letter.encode()), ord(letter)) for letter in word)
