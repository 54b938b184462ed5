"""The two compositions: the gateway, and the app of a worker. Parts are put together here and nowhere else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import cache, partial
from importlib.metadata import version
from typing import Any

from litestar import Litestar, Request
from litestar.di import Provide
from litestar.types import ASGIApp, ControllerRouterHandler

from openai_compat.auth import Authentication, OperatorAuthentication
from openai_compat.config import Config
from openai_compat.directory import GatewayHappenings, GatewayReadiness, GatewayResidents
from openai_compat.edition import Edition, Editions, Lasting, Latest, timing_of
from openai_compat.gateway.anthropic import MessageDesk
from openai_compat.gateway.asking import Asking
from openai_compat.gateway.catalog import Catalog
from openai_compat.gateway.chats import Chats
from openai_compat.gateway.counting import Counter
from openai_compat.gateway.decisions import DecisionDesk
from openai_compat.gateway.engines.launcher import EngineLauncher
from openai_compat.gateway.jobs.aims import Aims
from openai_compat.gateway.jobs.videos import VideoDesk
from openai_compat.gateway.loads import Loads
from openai_compat.gateway.metering.keeper import UsageKeeper
from openai_compat.gateway.metering.ledger import Ledger
from openai_compat.gateway.pool import Pool
from openai_compat.gateway.responses.desks import Desks
from openai_compat.gateway.routing.metrics import TargetCollector
from openai_compat.gateway.store.storage import Storage
from openai_compat.gateway.supervisor import Supervisor
from openai_compat.http.anthropic import AnthropicShape
from openai_compat.http.cors import CrossOrigin
from openai_compat.http.crowd import Crowd
from openai_compat.http.errors import exception_handlers
from openai_compat.http.front import Front, endpoints_of
from openai_compat.http.head import HeadAsGet
from openai_compat.http.listening import UNIX
from openai_compat.http.openapi import openapi_config
from openai_compat.http.options import WholeAllow
from openai_compat.http.proxies import TrustedProxies
from openai_compat.http.sse import StreamTiming
from openai_compat.inline import InlineLauncher
from openai_compat.keys.desk import Desk
from openai_compat.keys.ring import Ring
from openai_compat.limits import BodyLimit
from openai_compat.media.decoder import AudioLimits, MediaDecoder
from openai_compat.metrics import Metrics
from openai_compat.protocol import RelayFacts
from openai_compat.reload import GatewayReloading, Read, Reload
from openai_compat.renewal import Gateway, Renewal
from openai_compat.sizes import parse_size
from openai_compat.telemetry import Telemetry
from openai_compat.worker.runner import Runner
from routes.admin import KeyController
from routes.chat import ChatController
from routes.completions import CompletionController
from routes.conversations import ConversationController
from routes.decisions import DecisionController
from routes.embeddings import EmbeddingController
from routes.events import EventController
from routes.health import HealthController
from routes.images import ImageController
from routes.loading import LoadingController
from routes.media import MediaController
from routes.messages import MessageController
from routes.metrics import MetricsController
from routes.models import ModelController
from routes.moderations import ModerationController
from routes.reload import ReloadController
from routes.rerank import RerankController
from routes.residents import ResidentController
from routes.responses import ResponseController
from routes.speech import SpeechController
from routes.tokenize import TokenizeController
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
    ModerationController,
    RerankController,
    SpeechController,
    TokenizeController,
    TranscriptionController,
    VisionController,
)
GATEWAY_ROUTES: tuple[ControllerRouterHandler, ...] = (
    ModelController,
    EventController,
    LoadingController,
    HealthController,
    MetricsController,
    MediaController,
    MessageController,
    ResponseController,
    ConversationController,
    VideoController,
    DecisionController,
    UsageController,
)
ADMIN_ROUTES: tuple[ControllerRouterHandler, ...] = (KeyController, ReloadController, ResidentController)
LONGEST_ADMIN_BODY = 1 << 18
WORKER_ROUTES: tuple[ControllerRouterHandler, ...] = (VideoWorkerController,)


def create_gateway(config: Config, *, read: Read | None = None) -> Gateway:
    """The whole server as an ASGI application; nothing is loaded or started before its lifespan begins.

    ``read`` reads the configuration again, for a reload. Raises ``ConfigError`` where a configured folder belongs to another
    server.
    """
    catalog = Catalog(config)
    inline = config.server.inline
    pool = Pool(config, catalog, EngineLauncher(config, InlineLauncher(timing_of(config)) if inline else Supervisor(config)))
    storage = Storage(config)
    storage.claim()
    ledger = Ledger(config.metering)
    keys = Ring(config)
    lasting = Lasting(pool=pool, storage=storage, ledger=ledger, usage=UsageKeeper(config, ledger, storage), keys=keys)
    editions = Editions(Edition(config, catalog, lasting))
    videos = VideoDesk(config, Aims(config, editions.now.checks, editions.now.offers, ledger), pool, Latest(editions), storage)
    crowd = Crowd(connections=config.server.max_connections, in_flight=config.server.max_in_flight)
    metrics = _measured(pool, ledger, crowd, editions)
    reload = Reload(read, lambda: editions.now.config, Renewal(editions, lasting, videos))
    reload.also(lambda config: partial(crowd.allow, config.server.max_in_flight))
    readiness = GatewayReadiness(pool)
    asking = Asking(editions.relaying, cache(lambda: dict(endpoints_of(app))))
    desks = Desks(config, storage, ledger, asking, lambda name, grant: editions.now.offers.find(name, grant), keys.still)
    reload.also(desks.renewal)
    app = Litestar(
        route_handlers=[*MODEL_ROUTES, *GATEWAY_ROUTES],
        dependencies={
            **model_dependencies(None, timing_of(config), None),
            "timing": latest(lambda: editions.now.timing),
            "directory": latest(lambda: editions.now.directory),
            "readiness": given(readiness),
            "loads": given(Loads(lambda: editions.now, pool)),
            "happenings": given(GatewayHappenings(pool)),
            "metrics_registry": given(metrics.registry),
            "links": latest(lambda: editions.now.links),
            "usage_reader": latest(lambda: editions.now.usage_reader),
            "videos": given(videos),
            **_asked(asking, editions, desks),
        },
        exception_handlers=exception_handlers,
        openapi_config=openapi_config(version("openai-compat")),
        on_startup=[storage.start, keys.start, lasting.usage.start, pool.start, editions.start, videos.start, desks.start],
        on_shutdown=[
            reload.close, editions.rest, together(videos.close, desks.close), pool.close, editions.close,
            lasting.usage.close, keys.close, storage.close,
        ],
        **plain(),
    )  # fmt: skip
    editions.open(app, partial(_layered, app, metrics, keys))
    return Gateway(editions, reload, readiness, crowd=crowd, admin=create_admin(config, lasting, reload, metrics))


def _measured(pool: Pool, ledger: Ledger, crowd: Crowd, editions: Editions) -> Metrics:
    metrics = Metrics(pool.states, ledger.used, crowd)
    metrics.registry.register(TargetCollector(lambda: editions.now.router.states()))
    return metrics


def _asked(asking: Asking, editions: Editions, desks: Desks) -> dict[str, Provide]:
    """What answers requests in other shapes by asking the relay."""
    chats, counter = Chats(asking), Counter(asking)
    return {
        "chats": given(chats),
        "counter": given(counter),
        "responses": given(desks.responses),
        "conversations": given(desks.conversations),
        "decisions": given(DecisionDesk(chats, desks.intake, lambda: editions.now.config, lambda: editions.now.offers)),
        "messages": given(MessageDesk(chats, counter, desks.intake)),
    }


def _layered(app: Litestar, metrics: Metrics, keys: Ring, edition: Edition) -> ASGIApp:
    """What every request passes before the application, from the last to the first."""
    server = edition.config.server
    limited = BodyLimit(WholeAllow(app, app), max_body=parse_size(server.max_body))  # the relay has its own
    front = Front(app, edition.relay.serve, limited)
    guarded = Authentication(front, keys, behind_proxies=bool(server.trusted_proxies))
    watched = AnthropicShape(Telemetry(HeadAsGet(CrossOrigin(guarded, origins=server.cors_origins)), metrics=metrics))
    return TrustedProxies(watched, proxies=server.trusted_proxies) if server.trusted_proxies else watched


def create_admin(config: Config, lasting: Lasting, reload: Reload, metrics: Metrics) -> ASGIApp:
    """The application for operators, which has a listener of its own and shares the lifespan of the gateway.

    Whoever can open its Unix socket needs no key; over TCP everybody does.
    """
    app = Litestar(
        route_handlers=list(ADMIN_ROUTES),
        dependencies={
            "reloading": given(GatewayReloading(reload)),
            "residents": given(GatewayResidents(lasting.pool)),
            "keys": given(Desk(lasting.keys)),
        },
        exception_handlers=exception_handlers,
        openapi_config=None,
        **plain(),
    )
    limited = BodyLimit(WholeAllow(app, app), max_body=LONGEST_ADMIN_BODY)
    guarded = limited if config.admin.listen.startswith(UNIX) else OperatorAuthentication(limited, lasting.keys)
    return Telemetry(HeadAsGet(guarded), metrics=metrics)


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


def together(*steps: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Side by side: each may take the time that the end of the server gives to running work."""

    async def run() -> None:
        await asyncio.gather(*(step() for step in steps))

    return run


def latest(value: Callable[[], object]) -> Provide:
    """A dependency of which a request gets what is in force as it comes."""
    return Provide(value, sync_to_thread=False)


def given(value: object) -> Provide:
    """A dependency that is the same for every request."""
    return Provide(lambda: value, sync_to_thread=False)
