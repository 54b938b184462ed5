"""What every family needs while it loads: the operator's options as a Struct, and a library's errors as ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TypeVar

import msgspec
from msgspec import Struct

from handlers.memory import is_out_of_memory
from handlers.types import ModelSpec
from openai_compat.errors import APIError, InsufficientMemory, ModelUnavailable

OptionsT = TypeVar("OptionsT", bound=Struct)


def options_of(spec: ModelSpec, type: type[OptionsT]) -> OptionsT:
    """Raises ``ModelUnavailable`` naming what is wrong."""
    try:
        return msgspec.convert(spec.options, type)
    except msgspec.ValidationError as error:
        raise ModelUnavailable(f"The options of '{spec.id}' cannot be used: {error}.") from error


def require(spec: ModelSpec, packages: Iterable[str]) -> None:
    """What a library asks for in the middle of a request is asked for here. Raises ``ModelUnavailable`` naming a package."""
    for package in packages:
        if find_spec(package) is None:
            raise ModelUnavailable(f"The model '{spec.id}' needs the package {package}, which is not installed.")


@contextmanager
def load_errors(spec: ModelSpec) -> Iterator[None]:
    """What a library raises on broken files is beyond counting: all of it becomes ``ModelUnavailable``."""
    try:
        yield
    except APIError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise InsufficientMemory(f"There is not enough memory to load '{spec.id}'.") from error
        raise ModelUnavailable(f"The files of '{spec.id}' could not be loaded.") from error
