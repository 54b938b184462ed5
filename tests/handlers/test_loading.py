from __future__ import annotations

import msgspec
import pytest

from handlers.loading import load_errors, options_of
from handlers.types import ModelSpec
from openai_compat.errors import InsufficientMemory, ModelUnavailable

SPEC = ModelSpec(id="m", path="", kind="x", options={"beams": 0})


class Options(msgspec.Struct, forbid_unknown_fields=True):
    beams: int = 1


class OutOfMemoryError(RuntimeError):
    """Named as torch's own is."""


def test_options_are_read_into_the_family_s_struct() -> None:
    assert options_of(SPEC, Options).beams == 0
    with pytest.raises(ModelUnavailable, match=r"'m'.*unknown field `beam`"):
        options_of(msgspec.structs.replace(SPEC, options={"beam": 1}), Options)


@pytest.mark.parametrize("error", [OSError("/secret/path"), KeyError("weight"), ZeroDivisionError()])
def test_what_a_library_raises_tells_a_client_nothing(error: Exception) -> None:
    with pytest.raises(ModelUnavailable, match=r"^The files of 'm' could not be loaded\.$") as raised, load_errors(SPEC):
        raise error
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemoryError()])
def test_a_lack_of_memory_is_called_by_its_name(error: Exception) -> None:
    with pytest.raises(InsufficientMemory), load_errors(SPEC):
        raise error


def test_our_own_errors_keep_their_reason() -> None:
    with pytest.raises(ModelUnavailable, match="no such voice"), load_errors(SPEC):
        raise ModelUnavailable("There is no such voice.")
