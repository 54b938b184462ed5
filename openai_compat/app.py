"""The two compositions: the gateway, and the app of a worker. Parts are put together here and nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from litestar import Litestar, Request
from litestar.di import Provide
from litestar.types import ASGIApp, ControllerRouterHandler

from openai_compat.auth import Authentication
from openai_compat.config import Config
from openai_compat.directory import GatewayDirectory, GatewayHappenings, GatewayReadiness
from openai_compat.gateway.answer_cache import AnswerCache
from openai_compat.gateway.catalog import Catalog
from openai_compat.gateway.checks import Checks
from openai_compat.gateway.discovery import Discovery
from openai_compat.gateway.engines.launcher import EngineLauncher
from openai_compat.gateway.engines.sender import EngineSender
from openai_compat.gateway.jobs.aims import Aims
from openai_compat.gateway.jobs.videos import VideoDesk
from openai_compat.gateway.local import LocalSender
from openai_compat.gateway.metering.keeper import UsageKeeper
from openai_compat.gateway.metering.ledger import Ledger
from openai_compat.gateway.metering.report import UsageReport
from openai_compat.gateway.offers import Offers
from openai_compat.gateway.order import LocalTarget, Sender, Target
from openai_compat.gateway.pool import Pool
from openai_compat.gateway.relay import Relay
from openai_compat.gateway.routing.dispatcher import Router
from openai_compat.gateway.routing.metrics import TargetCollector
from openai_compat.gateway.store.links import Links
from openai_compat.gateway.store.storage import Storage
from openai_compat.gateway.supervisor import Supervisor
from openai_compat.gateway.upstreams.sender import UpstreamSender
from openai_compat.http.cors import CrossOrigin
from openai_compat.http.errors import exception_handlers
from openai_compat.http.front import Front
from openai_compat.http.head import HeadAsGet
from openai_compat.http.openapi import openapi_config
from openai_compat.http.sse import StreamTiming
from openai_compat.inline import InlineLauncher
from openai_compat.limits import BodyLimit
from openai_compat.media.decoder import AudioLimits, MediaDecoder
from openai_compat.metrics import Metrics
from openai_compat.protocol import RelayFacts
from openai_compat.sizes import parse_size
from openai_compat.telemetry import Telemetry
from openai_compat.worker.runner import Runner
from routes.chat import ChatController
from routes.completions import CompletionController
from routes.embeddings import EmbeddingController
from routes.events import EventController
from routes.health import HealthController
from routes.images import ImageController
from routes.media import MediaController
from routes.metrics import MetricsController
from routes.models import ModelController
from routes.rerank import RerankController
from routes.speech import SpeechController
from routes.transcriptions import TranscriptionController
from routes.usage import UsageController
from routes.video_worker import VideoWorkerController
from routes.videos import VideoController
from routes.vision import VisionController

# What a model answers: the same routes in the gateway, which relays them, and in a worker, which runs them.
MODEL_ROUTES: tuple[ControllerRouterHandler, ...] = (
    ChatController,
    CompletionController,
    EmbeddingController,
    ImageController,
    RerankController,
    SpeechController,
    TranscriptionController,
    VisionController,
)
GATEWAY_ROUTES: tuple[ControllerRouterHandler, ...] = (
    ModelController,
    EventController,
    HealthController,
    MetricsController,
    MediaController,
    VideoController,
    UsageController,
)
WORKER_ROUTES: tuple[ControllerRouterHandler, ...] = (VideoWorkerController,)


def create_gateway(config: Config) -> ASGIApp:
    """The whole server as an ASGI application; nothing is loaded or started before its lifespan begins.

    Raises ``ConfigError`` where a configured folder belongs to another server.
    """
    catalog = Catalog(config)
    discovery = Discovery(config)
    offers = Offers(config, catalog, discovery)
    server = config.server
    timing = StreamTiming(first_byte_timeout=server.first_byte_timeout, ping_interval=server.ping_interval)
    pool = Pool(config, catalog, EngineLauncher(config, InlineLauncher(timing) if server.inline else Supervisor(config)))
    storage = Storage(config)
    storage.claim()
    links = Links(config, storage)
    ledger = Ledger(config.metering)
    checks = Checks(catalog, offers)
    upstreams = UpstreamSender(config.upstreams, hold=server.first_byte_timeout, ping_interval=server.ping_interval)
    videos = VideoDesk(config, Aims(config, checks, offers, ledger), pool, upstreams, storage)
    router = Router(config, _senders(EngineSender(config.models, pool, LocalSender(checks, pool, links)), upstreams))
    relay = Relay(config, offers, checks, router, ledger, AnswerCache(config.cache))
    usage = UsageKeeper(config, ledger, storage)
    metrics = Metrics(pool.states, ledger.used)
    metrics.registry.register(TargetCollector(router.states))
    app = Litestar(
        route_handlers=[*MODEL_ROUTES, *GATEWAY_ROUTES],
        dependencies={
            "directory": given(GatewayDirectory(config, catalog, pool, offers)),
            "readiness": given(GatewayReadiness(pool)),
            "happenings": given(GatewayHappenings(pool)),
            "metrics_registry": given(metrics.registry),
            "links": given(links),
            "usage_reader": given(UsageReport(usage, open_to_all=not config.auth.keys)),
            "videos": given(videos),
            **model_dependencies(None, timing, None),
        },
        exception_handlers=exception_handlers,
        openapi_config=openapi_config(version("openai-compat")),
        on_startup=[storage.start, usage.start, pool.start, discovery.start, videos.start],
        on_shutdown=[discovery.close, videos.close, pool.close, upstreams.close, usage.close, storage.close],
        **plain(),
    )
    limited = BodyLimit(app, max_body=parse_size(server.max_body))  # the relay has its own
    return _layered(config, Front(app, relay.serve, limited), metrics)


def _senders(local: Sender, upstreams: Sender) -> Callable[[Target], Sender]:
    return lambda target: local if isinstance(target, LocalTarget) else upstreams


def _layered(config: Config, app: ASGIApp, metrics: Metrics) -> ASGIApp:
    """What every request passes before the application, from the last to the first."""
    guarded = Authentication(app, keys=config.auth.keys)
    return Telemetry(HeadAsGet(CrossOrigin(guarded, origins=config.server.cors_origins)), metrics=metrics)


def create_worker(runner: Runner, *, model_id: str, timing: StreamTiming) -> Litestar:
    """The app of one model: what a worker process serves on its socket."""
    logging.getLogger(__name__).debug("%s is served", model_id)
    media = MediaDecoder(AudioLimits.of(runner.handler.spec.options))
    return Litestar(
        route_handlers=[*MODEL_ROUTES, *WORKER_ROUTES],
        dependencies=model_dependencies(runner, timing, media),
        exception_handlers=exception_handlers,
        openapi_config=None,
        on_shutdown=[media.close],
        **plain(),
    )


def plain() -> dict[str, Any]:
    """Logging is ours, and so is the limit on bodies, which stands in front of the app."""
    return {"logging_config": None, "request_max_body_size": None}


def model_dependencies(runner: Runner | None, timing: StreamTiming, media: MediaDecoder | None) -> dict[str, Provide]:
    """What a model's routes take. The gateway has no runner or decoder: its relay answers before they are reached."""
    return {
        "runner": given(runner),
        "timing": given(timing),
        "media": given(media),
        "facts": Provide(read_facts, sync_to_thread=False),
    }


def read_facts(request: Request[Any, Any, Any]) -> RelayFacts:
    return RelayFacts.from_headers(request.headers)


def given(value: object) -> Provide:
    """A dependency that is the same for every request."""
    return Provide(lambda: value, sync_to_thread=False)
