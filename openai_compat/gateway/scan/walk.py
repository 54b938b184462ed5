"""One walk over a model's folder: an allow-list of formats, no code, no link that leaves it, headers that fit their files.

Nothing is loaded and nothing of a library runs. A problem is one line, ``file: reason``, with the file relative to the folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from handlers.headers import BadHeader, read_safetensors
from handlers.headers_ctranslate2 import read_ctranslate2
from handlers.headers_gguf import read_gguf
from openai_compat.gateway.scan.json_keys import check_json
from openai_compat.gateway.scan.onnx import check_onnx

MAX_FILES = 10_000
MAX_PROBLEMS = 20
MAX_DEPTH = 8
# the tools that fetch and version a folder keep their own files there; no loader reads them
SKIPPED = (".git", ".cache")
CODE = (".py", ".pyc", ".pyw", ".pyd", ".so", ".dll", ".dylib", ".sh", ".exe", ".pth", ".js", ".jar", ".ipynb")
PICKLES = (".bin", ".pt", ".ckpt", ".pkl", ".pickle", ".pt2", ".nemo", ".h5", ".hdf5", ".keras", ".msgpack", ".joblib", ".dill")
ARCHIVES = (".npy", ".npz", ".mar", ".tar", ".zip", ".gz")
TEXTS = (".txt", ".md", ".jinja", ".tiktoken", ".vocab", ".bpe", ".jsonl", ".yaml", ".yml", ".toml", ".csv", ".license")
MEDIA = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".pdf", ".wav", ".mp3", ".flac", ".mp4")
INERT = (*TEXTS, *MEDIA, ".model", ".spm", ".onnx_data")
BARE_NAMES = frozenset(("license", "notice", "readme", ".gitattributes", ".gitignore", "use_policy", "copying", "authors"))
MAGICS = {
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "a zip archive",
    b"\x7fELF": "a program",
    b"\x1f\x8b": "a gzip archive",
    b"\x93NUM": "a numpy array",
    b"\x89HDF": "an HDF5 file",
    **{b"\x80" + bytes([protocol]): "a pickle" for protocol in range(2, 6)},
}
# transformers loads the model that this names, from wherever it is, instead of the one beside it
ADAPTER = "adapter_config.json"

CHECKS: dict[str, Callable[[Path], object]] = {
    ".safetensors": read_safetensors,
    ".gguf": read_gguf,
    ".json": check_json,
}


def scan(root: Path) -> tuple[str, ...]:
    """Problems of the folder or single file ``root``; empty when it may be loaded. Never raises on what a file holds."""
    if not root.exists():
        return (f"{root.name}: does not exist",)
    if root.is_file():
        return tuple(_check_file(root, root.name, root.parent))
    problems: list[str] = []
    for count, path in enumerate(_walk(root, 0)):
        if count >= MAX_FILES:
            return (*problems, f"{root.name}: holds more than {MAX_FILES} files")
        problems += _check_file(path, path.relative_to(root).as_posix(), root)
        if len(problems) >= MAX_PROBLEMS:
            break
    return tuple(problems)


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """Every entry that is not a plain folder, in order of name; a folder too deep is given as itself, and so refused."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = Path(entry.path)
        if not entry.is_dir(follow_symlinks=False) or depth >= MAX_DEPTH:
            yield path
        elif depth > 0 or entry.name not in SKIPPED:
            yield from _walk(path, depth + 1)


def _check_file(path: Path, name: str, root: Path) -> Iterator[str]:
    try:
        reason = _placement(path, root) or _format(path, root)
    except BadHeader as error:
        reason = error.reason
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    if reason:
        yield f"{name}: {reason}"


def _placement(path: Path, root: Path) -> str | None:
    """Why the entry may not be where it is: a link that leaves the folder or hides a folder, a device, a pipe."""
    if path.is_symlink():
        target = path.resolve()
        if not target.is_relative_to(root.resolve()):
            return "a symbolic link that leaves the model's folder"
        if target.suffix.lower() != path.suffix.lower():
            return "a symbolic link to a file of another format"
    if not stat.S_ISREG(path.stat().st_mode):
        return "not a plain file, or a folder nested too deep"
    return None


def _format(path: Path, root: Path) -> str | None:
    suffix = path.suffix.lower()
    if path.name == ADAPTER:
        return "an adapter brings along a model that was not looked at; merge it into its model first"
    if suffix in CHECKS:
        CHECKS[suffix](path)
    elif suffix == ".onnx":
        check_onnx(path, root)
    elif path.name == "model.bin":
        read_ctranslate2(path)
    elif suffix in CODE:
        return "code is not allowed in a model's folder"
    elif suffix in PICKLES or suffix in ARCHIVES:
        return "this format can run code when it is loaded; convert it to safetensors first"
    elif suffix not in INERT and path.name.lower() not in BARE_NAMES and path.stem.lower() not in BARE_NAMES:
        return "not a format that this server loads"
    else:
        return _disguise(path)
    return None


def _disguise(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(4)
    return next((f"{what} under another name" for magic, what in MAGICS.items() if head.startswith(magic)), None)
