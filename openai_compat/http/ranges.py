"""Which bytes of a file a client asks for. One range is understood, in time that does not depend on what is sent; whatever else
a ``Range`` may say is left out, as HTTP allows, and the file is sent whole.
"""

from __future__ import annotations

import re

_LONGEST = 64
_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})", re.ASCII)


def asked_range(header: str | None, size: int) -> range | None:
    """The places of the bytes in a file of ``size``. None for several ranges, none that can be read, or one beyond its end."""
    found = _RANGE.fullmatch(header) if header is not None and len(header) <= _LONGEST else None
    if found is None:
        return None
    first, last = found.groups()
    if first:
        places = range(int(first), min(int(last) + 1, size) if last else size)
    else:
        places = range(max(0, size - int(last or 0)), size)
    return places if places else None
