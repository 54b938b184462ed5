"""The JSON body of a request as an upstream is to get it: the same bytes, or the same values with some fields changed.

Of the values no objects are built: what is not named by a rule arrives byte for byte. Of a key that is there twice the last one
counts, which is what the gateway has read too.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

import msgspec
from msgspec import Raw

from openai_compat.config import UpstreamModel
from openai_compat.errors import InvalidRequest
from openai_compat.gateway.order import Envelope

_OPTIONS = "stream_options"
_USAGE = "include_usage"
_MODEL = "model"
_LARGE, _SMALL = b"\\u004", b"\\u006"  # the beginnings of its letters, large and small, where they are escaped
_ON_REQUEST = frozenset({"/v1/chat/completions", "/v1/completions"})
"""Where the usage of a stream is told if it is asked for; elsewhere it is told anyway, or never."""
_MOST_NAMES = 1 << 17
_NAMED = re.compile(rb'"(?<![^\\]\\")[ \t\r\n]*:')  # the end of a name; of JSON within a text the quotes are escaped
_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


def may_ask_usage(path: str, envelope: Envelope, model: UpstreamModel) -> bool:
    """Whether the client has left it to us to ask for the usage of its stream."""
    return (
        envelope.stream is True
        and path in _ON_REQUEST
        and not envelope.asks_usage
        and _OPTIONS not in model.drop
        and _OPTIONS not in model.rename
    )


def must_change(envelope: Envelope, model: UpstreamModel, remote_name: str) -> bool:
    return bool(envelope.model != remote_name or model.drop or model.rename or model.default)


def is_ambiguous(body: bytes) -> bool:
    """Whether two readers may take it to name different models: of a key that is there twice some take the first, and Go's own
    reader does not heed the case of letters. Also true of bodies that only look like that: these cost a rewriting.
    """
    text = body.lower()
    return text.count(b'"model"') != 1 or _LARGE in text or _SMALL in text


def rewritten(body: bytes, model: UpstreamModel, remote_name: str, *, ask_usage: bool) -> tuple[bytes, bool]:
    """The body with the model's name in it, and whether it asks for usage now: a client's odd ``stream_options`` stay as they
    are. Raises ``InvalidRequest`` where it is no JSON object.
    """
    fields = _fields(body)
    for name in [name for name in fields if name != _MODEL and name.lower() == _MODEL]:
        del fields[name]
    fields[_MODEL] = remote_name
    for name in model.drop:
        fields.pop(name, None)
    for old, new in model.rename.items():
        if old in fields:
            fields.setdefault(new, fields[old])
            del fields[old]
    for name, value in model.default.items():
        fields.setdefault(name, value)
    asked = ask_usage and _asks(fields)
    return _encode(fields), asked


def _fields(body: bytes) -> dict[str, Any]:
    if has_too_many_names(body):
        raise InvalidRequest(f"The request body has more than {_MOST_NAMES} names of fields.")
    try:
        return _FIELDS.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest("The request body is not a JSON object.", code="invalid_json") from None


def has_too_many_names(body: bytes) -> bool:
    """Each costs a microsecond in which nobody else is served. Those of inner objects are counted too, since that is cheap."""
    if body.count(b'"') < 2 * _MOST_NAMES:
        return False
    return next(islice(_NAMED.finditer(body), _MOST_NAMES, None), None) is not None


def _asks(fields: dict[str, Any]) -> bool:
    options = fields.get(_OPTIONS)
    if isinstance(options, Raw):
        try:
            options = msgspec.json.decode(options, type=dict[str, Raw] | None)
        except msgspec.DecodeError:
            return False
    if not isinstance(options, dict | None):
        return False
    fields[_OPTIONS] = {**(options or {}), _USAGE: True}
    return True
