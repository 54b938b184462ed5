"""The list of models, as Anthropic's clients turn its pages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from openai_compat.errors import InvalidRequest
from schemas.anthropic_models import ModelInfo, ModelPage, ModelPageQuery
from schemas.models import Model


def info_of(model: Model) -> ModelInfo:
    created = datetime.fromtimestamp(model.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return ModelInfo(id=model.id, display_name=model.id, created_at=created, max_input_tokens=model.context_length)


def page_of(models: Sequence[Model], query: ModelPageQuery) -> ModelPage:
    """Raises ``InvalidRequest`` where there is no such page."""
    if query.after_id is not None and query.before_id is not None:
        raise InvalidRequest("'after_id' and 'before_id' cannot be given together.", param="before_id")
    if query.before_id is not None:
        end = _place(models, query.before_id, "before_id")
        start = max(0, end - query.limit)
        has_more = start > 0
    else:
        start = 0 if query.after_id is None else _place(models, query.after_id, "after_id") + 1
        end = start + query.limit
        has_more = end < len(models)
    data = [info_of(model) for model in models[start:end]]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return ModelPage(data=data, has_more=has_more, first_id=first, last_id=last)


def _place(models: Sequence[Model], id: str, param: str) -> int:
    found = next((place for place, model in enumerate(models) if model.id == id), None)
    if found is None:
        raise InvalidRequest(f"Invalid value for '{param}': there is no such model.", param=param)
    return found
