"""The parts of the configuration that are about other servers: upstreams, routes, engines, what it all costs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from openai_compat.config.base import Amount, Count, Seconds, Section, Size, SomeSeconds

Weight = Annotated[float, Meta(gt=0, le=1e6)]
Retries = Annotated[int, Meta(ge=0, le=10)]
Attempts = Annotated[int, Meta(ge=1, le=32)]


class Price(Section, frozen=True, kw_only=True):
    """In any one currency, for a million tokens. ``cached`` prompt tokens cost what others do where it is left out."""

    prompt: Amount = 0.0
    completion: Amount = 0.0
    cached: Amount | None = None
    request: Amount = 0.0


class Breaker(Section, frozen=True, kw_only=True):
    """When a target is left alone: after so many failures in a row, for ``pause`` seconds, doubled up to ``pause_max``."""

    failures: Count = 5
    pause: SomeSeconds = 5.0
    pause_max: SomeSeconds = 120.0


class UpstreamModel(Section, frozen=True, kw_only=True):
    """Models of an upstream, under the name that clients use. A name with one ``*`` in it stands for many.

    ``name`` is what the upstream calls it: the same where empty; its ``*`` is what the client's ``*`` stood for.
    ``capabilities`` are verbs; any where empty. ``drop``, ``rename`` and ``default`` are about the request's top-level fields,
    done in this order.
    """

    name: str = ""
    capabilities: tuple[str, ...] = ()
    context_length: Count | None = None
    drop: tuple[str, ...] = ()
    rename: dict[str, str] = field(default_factory=dict)
    default: dict[str, Any] = field(default_factory=dict)
    price: Price = Price()


class Upstream(Section, frozen=True, kw_only=True):
    """A server that speaks the OpenAI API. ``base_url`` ends where ``/chat/completions`` follows, and may hold ``{model}``.

    The key comes from a variable of the environment or from a file, whose changes are noticed. Without ``models`` all are
    offered; with ``discover`` only those that it lists itself. ``query`` goes with each request (``api-version`` for Azure),
    ``usage`` tells whether its streams may be asked for usage.
    """

    base_url: str
    api_key_env: str = ""
    api_key_file: str = ""
    api_key_header: str = "authorization"
    organization: str = ""
    project: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    models: dict[str, UpstreamModel] = field(default_factory=dict)
    discover: bool = False
    usage: bool = True
    connect_timeout: SomeSeconds = 5.0
    first_byte_timeout: SomeSeconds = 120.0
    idle_timeout: SomeSeconds = 60.0
    retries: Retries = 2
    max_in_flight: Count | None = None
    breaker: Breaker = Breaker()
    proxy: str = ""
    ca_file: str = ""


class RouteTarget(Section, frozen=True, kw_only=True):
    """A name of a model, local or upstream, and its share of the requests."""

    model: str
    weight: Weight = 1.0


class Route(Section, frozen=True, kw_only=True):
    """A public name that stands for several targets.

    ``policy`` chooses the first one tried; the others follow in their order. ``sticky`` says what keeps requests together: the
    ``user`` field, a ``session`` header, ``prompt_cache_key``, or the ``prefix`` of the prompt. ``larger_context`` takes what
    the others refuse as too long. ``hedge_after`` seconds without an answer a second target is asked beside the first.
    """

    targets: tuple[str | RouteTarget, ...]
    policy: Literal["ordered", "round_robin", "least_in_flight", "weighted"] = "ordered"
    sticky: Literal["", "user", "session", "prompt_cache_key", "prefix"] = ""
    larger_context: str = ""
    hedge_after: SomeSeconds | None = None
    attempts: Attempts = 4


class Engine(Section, frozen=True, kw_only=True):
    """How a model's own program is talked to. ``{port}``, ``{host}``, ``{model}`` and ``{key}`` are filled in.

    ``name`` is what it calls the model: where empty, what it lists if that is one, else the id. ``health`` is the path that
    answers 200 once it serves.
    """

    name: str = ""
    health: str = "/health"
    base_path: str = "/v1"
    capabilities: tuple[str, ...] = ("generate_text",)
    context_length: Count | None = None
    stop_grace: Seconds = 10.0
    max_in_flight: Count | None = None


class AnswerCache(Section, frozen=True, kw_only=True):
    """Whole answers to equal requests of one key; off while ``size`` is 0. ``when`` says which requests may be answered so."""

    size: Size = 0
    ttl: SomeSeconds = 300.0
    when: Literal["temperature_0", "header"] = "temperature_0"
