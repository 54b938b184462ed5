"""Pages of models."""

from __future__ import annotations

from itertools import pairwise

import pytest
from anthropic.types import ModelInfo as SDKModelInfo
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.errors import InvalidRequest
from openai_compat.translate.anthropic.models import info_of, page_of
from schemas.anthropic_models import ModelPageQuery
from schemas.models import Model

MODELS = [Model(id=f"m{number}", created=1_790_000_000, context_length=number) for number in range(7)]


def ids(**query: object) -> list[str]:
    return [info.id for info in page_of(MODELS, ModelPageQuery(**query)).data]  # type: ignore[arg-type]


def test_a_model_has_every_key_that_the_sdk_asks_for() -> None:
    info = info_of(MODELS[3])
    read = SDKModelInfo.model_validate({name: getattr(info, name) for name in info.__struct_fields__})
    assert (read.id, read.max_input_tokens, read.lifecycle) == ("m3", 3, "active")
    assert read.created_at.isoformat() == "2026-09-21T14:13:20+00:00"


@given(st.integers(1, 9))
def test_pages_forward_are_all_models_once(limit: int) -> None:
    seen: list[str] = []
    after: str | None = None
    while True:
        page = page_of(MODELS, ModelPageQuery(limit=limit, after_id=after))
        seen += [info.id for info in page.data]
        after = page.last_id
        if not page.has_more:
            break
    assert seen == [model.id for model in MODELS]
    assert all(one < other for one, other in pairwise(seen))


def test_the_page_before_a_model_ends_there() -> None:
    assert ids(before_id="m4", limit=2) == ["m2", "m3"]
    assert ids(before_id="m1") == ["m0"]
    assert ids(before_id="m0") == []
    assert page_of(MODELS, ModelPageQuery(before_id="m4", limit=2)).has_more
    assert not page_of(MODELS, ModelPageQuery(before_id="m2", limit=2)).has_more


def test_there_may_be_none() -> None:
    page = page_of([], ModelPageQuery())
    assert (page.data, page.has_more, page.first_id, page.last_id) == ([], False, None, None)


@pytest.mark.parametrize(
    ("query", "param"),
    [({"after_id": "x"}, "after_id"), ({"before_id": "x"}, "before_id"), ({"after_id": "m1", "before_id": "m2"}, "before_id")],
)
def test_a_page_that_is_none_is_refused_by_name(query: dict[str, str], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ids(**query)
    assert caught.value.param == param
