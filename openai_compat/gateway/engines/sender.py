"""The way to an engine: a lease from the pool, and under it an exchange as with an upstream."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from openai_compat.config import Model
from openai_compat.errors import (
    ModelUnavailable,
    Unavailable,
    UnsupportedCapability,
    UnsupportedMode,
    UpstreamError,
)
from openai_compat.gateway.engines.worker import EngineWorker
from openai_compat.gateway.order import Failure, LocalTarget, Order, Sender
from openai_compat.gateway.replica import Answer
from openai_compat.gateway.slot import Lease

# What one of must be among an engine's capabilities. Whether it can do all that a request holds is the engine's to say.
_VERBS: dict[str, tuple[str, ...]] = {
    "/v1/chat/completions": ("generate_text", "process_multimodal", "generate_image"),
    "/v1/completions": ("generate_text",),
    "/v1/embeddings": ("embed_text", "embed_image", "embed_multimodal"),
    "/v1/rerank": ("rank_text",),
    "/v1/moderations": ("classify_text",),
    "/tokenize": ("tokenize_text",),
    "/detokenize": ("tokenize_text",),
    "/v1/tokenize": ("tokenize_text",),
    "/v1/detokenize": ("tokenize_text",),
    "/v1/images/generations": ("generate_image",),
    "/v1/images/edits": ("generate_image",),
    "/v1/images/variations": ("generate_image",),
    "/v1/audio/speech": ("generate_audio",),
    "/v1/audio/transcriptions": ("process_audio",),
    "/v1/audio/translations": ("process_audio",),
}


class Leases(Protocol):
    """The part of the pool that a request needs."""

    async def acquire(self, model_id: str, *, wait: float | None = None, request_id: str = ...) -> Lease: ...


class EngineSender:
    """``Sender`` for local models that have a command; ``others`` is the way to the rest."""

    def __init__(self, models: Mapping[str, Model], pool: Leases, others: Sender) -> None:
        self._models = models
        self._pool = pool
        self._others = others

    def send(self, order: Order, target: LocalTarget) -> AbstractAsyncContextManager[Answer]:
        model = self._models[target.model_id]
        return _Exchange(self._pool, model, order, target) if model.command else self._others.send(order, target)


class _Exchange:
    def __init__(self, pool: Leases, model: Model, order: Order, target: LocalTarget) -> None:
        self._pool = pool
        self._model = model
        self._order = order
        self._target = target
        self._lease: Lease | None = None
        self._open: AbstractAsyncContextManager[Answer] | None = None

    async def __aenter__(self) -> Answer:
        self._check()
        lease = await self._acquire()
        self._order.tally.aim(self._target.label, self._target.price)
        try:
            opened = _engine(lease).exchange(self._order)
            answer = await opened.__aenter__()
        except BaseException as error:
            _end(lease, error)
            raise
        self._lease, self._open = lease, opened
        return answer

    async def __aexit__(self, *_: object) -> None:
        lease, self._lease = self._lease, None
        opened, self._open = self._open, None
        if opened is not None:
            await opened.__aexit__(None, None, None)
        if lease is not None:
            lease.leave()

    def _check(self) -> None:
        """What this model cannot do, another one may."""
        name, mode, path = self._order.public_name, self._target.mode, self._order.path
        if mode is not None:
            raise Failure("refused", UnsupportedMode(mode, ()))
        if path in _VERBS and not set(_VERBS[path]) & set(self._model.engine.capabilities):
            verb = _VERBS[path][0].replace("_", " ")
            message = f"The model '{name}' does not support this: it cannot {verb}."
            raise Failure("refused", UnsupportedCapability(message, param="model"))

    async def _acquire(self) -> Lease:
        try:
            return await self._pool.acquire(self._target.model_id, request_id=self._order.request_id)
        except Unavailable as error:
            raise Failure("server_error", error, retry_after=error.retry_after) from error


def _end(lease: Lease, error: BaseException) -> None:
    """Where nobody listens the engine is as good as dead; our own shortages say nothing of it."""
    if isinstance(error, Failure) and error.cause == "not_begun" and isinstance(error.error, UpstreamError):
        lease.discard()
        return
    if isinstance(error, Failure) and error.cause == "lost":
        lease.suspect()
    lease.leave()


def _engine(lease: Lease) -> EngineWorker:
    if not isinstance(lease.worker, EngineWorker):
        raise ModelUnavailable(f"The model '{lease.slot.model_id}' is no engine.")
    return lease.worker
