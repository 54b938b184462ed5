"""The operator's ``options`` of one model, as the Struct of its family."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct

from handlers.types import ModelSpec
from openai_compat.errors import ModelUnavailable

T = TypeVar("T", bound=Struct)


def options_of(spec: ModelSpec, type: type[T]) -> T:
    """Raises ``ModelUnavailable`` for options that the family does not know."""
    try:
        return msgspec.convert(spec.options, type)
    except msgspec.ValidationError as error:
        raise ModelUnavailable(f"The options of '{spec.id}' cannot be used: {error}.") from error
