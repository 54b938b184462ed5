from __future__ import annotations

from collections.abc import Iterator

import pytest

from handlers.decoding.kernels.compiler import NotBuilt, library
from handlers.decoding.kernels.native import Kernels


@pytest.fixture(scope="session")
def kernels() -> Iterator[Kernels]:
    try:
        yield Kernels(library(), threads=2)
    except NotBuilt as error:
        pytest.skip(str(error))
