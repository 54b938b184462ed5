"""JSON of a model must not name code: keys by which a library would import or fetch some are refused, however deep they stand,
and where a key stands twice, in both of its values. Nor may it name weights that lie elsewhere.

Small files are parsed. Large ones (a tokenizer may have 30 MB) are searched for the keys in any spelling that JSON has for
them, and parsed only where something is found; so the gateway's memory stays flat.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from handlers.config_bounds import check_numbers
from handlers.headers import BadHeader

FORBIDDEN = ("auto_map", "custom_pipeline", "trust_remote_code")
INTERNAL = re.compile(r"_.*_internal", re.DOTALL)
# a repository in one of these is a kernel: code that transformers fetches and runs
IMPLEMENTATIONS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")
# values that name files or modules
NAMING = ("transformers_weights", "auto_mapping", "weight_map")
MAX_BYTES = 64 * 2**20
PARSED_BYTES = 4 * 2**20
MAX_DEPTH = 100
MAX_NODES = 200_000
MANY = 10_000
LONGEST_KEY = 256
# maps from token to number: their keys are text, and no library takes them for settings
VOCABULARIES = {"vocab.json": (), "added_tokens.json": (), "tokenizer.json": ("model", "vocab")}


def check_json(path: Path) -> None:
    """Raises ``BadHeader`` for a forbidden key, what is not JSON, nesting over 100 levels, and numbers that no model has."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise BadHeader(path, f"{size} bytes of JSON are over the limit of {MAX_BYTES}")
    raw = path.read_bytes()
    if size > PARSED_BYTES:
        if b"\0" in raw[:4] or not raw[:1].isascii():
            raise BadHeader(path, "this is not JSON in UTF-8")
        if not _is_suspect(raw):
            return
    tree = _parse(path, raw)
    _check_tree(path, tree)
    if path.name == "config.json" and isinstance(tree, dict):
        check_numbers(path, tree)


def _parse(path: Path, raw: bytes) -> Any:
    if raw.count(b"[") + raw.count(b"{") > MAX_NODES:
        raise BadHeader(path, f"its JSON has over {MAX_NODES} objects and lists")
    try:
        return json.loads(raw.decode(), object_pairs_hook=_every_value)
    except (ValueError, RecursionError) as error:
        raise BadHeader(path, "this is not valid JSON") from error


class _Twice(list[Any]):
    """The values of a key that an object has more than once: readers differ in which of them they take."""


def _every_value(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        found |= {key: _Twice(value for name, value in pairs if name == key) for key in _repeated(pairs)}
    return found


def _repeated(pairs: list[tuple[str, Any]]) -> set[str]:
    counts = Counter(key for key, _ in pairs)
    return {key for key, count in counts.items() if count > 1}


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
            _check_values(path, node)
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


def _check_values(path: Path, node: dict[str, Any]) -> None:
    """An implementation is a name, or one for each part of the model; weights are names of files beside the configuration."""
    for key in IMPLEMENTATIONS:
        if any("/" in name for name in _names(node.get(key))):
            raise BadHeader(path, f"the value of {key!r} would bring code along; such models are not loaded")
    if any(not _is_beside(name) for name in _names(node.get("transformers_weights"))):
        raise BadHeader(path, "'transformers_weights' names something else than a safetensors file beside it")
    if any(isinstance(value, dict) for value in _values(node.get("auto_mapping"))):
        raise BadHeader(path, "the key 'auto_mapping' may bring code along; such models are not loaded")
    if "safetensors" in path.name and any(not _is_beside(name) for name in _names(node.get("weight_map"))):
        raise BadHeader(path, "names a shard that is no safetensors file beside it")


def _names(value: Any) -> Iterator[str]:
    """Every text in a value, however it is kept together."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()


def _values(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, _Twice) else (value,)


def _is_beside(name: str) -> bool:
    return PurePosixPath(name).name == name and "\\" not in name and name.lower().endswith(".safetensors")


def _is_suspect(raw: bytes) -> bool:
    """Whether a word that matters stands in it as a text of its own. Only plain searches: they take a second for 64 MiB."""
    plain = _unescaped(raw)
    if any(b'"%s"' % word.encode() in plain for word in (*FORBIDDEN, *IMPLEMENTATIONS, *NAMING)):
        return True
    at = -1
    for _ in range(MANY):
        at = plain.find(b'_internal"', at + 1)
        if at < 0:
            return False
        begin = plain.rfind(b'"', max(0, at - LONGEST_KEY), at)
        if begin + 1 < at and plain[begin + 1 : begin + 2] == b"_":
            return True
    return True


def _unescaped(raw: bytes) -> bytes:
    """The letters of the words that matter as themselves, where they are written as ``\\u0061``."""
    if b"\\u00" not in raw:
        return raw
    for letter in sorted(set("".join((*FORBIDDEN, *IMPLEMENTATIONS, *NAMING, "_internal")))):
        for form in {f"\\u00{ord(letter):02x}", f"\\u00{ord(letter):02X}"}:
            raw = raw.replace(form.encode(), letter.encode())
    return raw
