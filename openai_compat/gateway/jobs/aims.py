"""Where an order for a video goes, whether it may, and on whose account."""

from __future__ import annotations

from litestar.types import HTTPScope
from msgspec.structs import replace

from openai_compat.config import Config
from openai_compat.errors import ModelUnavailable, UnsupportedCapability
from openai_compat.gateway.catalog import Target as Named
from openai_compat.gateway.checks import Checks, verbs_of
from openai_compat.gateway.jobs.record import VideoRecord
from openai_compat.gateway.metering.ledger import Ledger
from openai_compat.gateway.metering.limits import Arrival
from openai_compat.gateway.offers import Offers
from openai_compat.gateway.order import Choice, Envelope, LocalTarget, Tally, Target, UpstreamTarget
from openai_compat.grants import ANYBODY
from openai_compat.translate import videos
from schemas.videos import CreateVideoRequest

PATH = "/v1/videos"


class Aims:
    """Finds the model of each order: of a route the first one, since a job stays where it began."""

    def __init__(self, config: Config, checks: Checks, offers: Offers, ledger: Ledger) -> None:
        self._models = config.models
        self._checks = checks
        self._offers = offers
        self._ledger = ledger

    def renew(self, config: Config, checks: Checks, offers: Offers) -> None:
        """Aim by another configuration from now on; prices of models that are gone stay known, for the jobs that they have."""
        self._models = {**self._models, **config.models}
        self._checks, self._offers = checks, offers

    def arrive(self, scope: HTTPScope) -> Arrival:
        """A place for an order whose body is still to come. Raises ``RateLimited``."""
        return self._ledger.arrive(scope["state"].get("grant", ANYBODY))

    async def checked(self, request: CreateVideoRequest, scope: HTTPScope) -> VideoRecord:
        """The order, once its model is found and can do it, and the key may use more."""
        verbs = verbs_of(videos.plan(request))
        grant = scope["state"]["grant"]
        name = (await self._checks.target(request, verbs, grant)).public_name if request.model is None else request.model
        target = self._offers.find(name, grant).choices[0].target
        scope["state"]["model"] = target.label
        await self._admit(name, target, request, verbs)
        self._check_quota(scope, target)
        return VideoRecord(
            model_id=target.label,
            model=name,
            mode=target.mode if isinstance(target, LocalTarget) else None,
            request=replace(request, model=name),
            upstream=target.upstream if isinstance(target, UpstreamTarget) else "",
        )

    def upstream_of(self, record: VideoRecord) -> UpstreamTarget:
        """Where a kept order goes on. Raises ``APIError`` where its name means something else by now."""
        target = self._offers.find(record.model).choices[0].target
        if not isinstance(target, UpstreamTarget) or target.upstream != record.upstream:
            raise ModelUnavailable(f"The model '{record.model}' is not where the video was ordered any more.", retry=False)
        return target

    def account(self, owner: str, target: Target) -> Tally:
        """Raises ``RateLimited`` where the key's budget has no room for it any more."""
        tally = self._ledger.account(owner, target.price)
        tally.aim(target.label, target.price)
        return tally

    def local_account(self, owner: str, model_id: str) -> Tally:
        return self.account(owner, LocalTarget(model_id=model_id, price=self._models[model_id].price))

    async def _admit(self, name: str, target: Target, request: CreateVideoRequest, verbs: tuple[str, ...]) -> None:
        """What an upstream can do is its to say, where nothing is configured. Engines make no videos here."""
        if isinstance(target, LocalTarget) and not self._models[target.model_id].command:
            await self._checks.admit(Named(model_id=target.model_id, mode=target.mode, public_name=name), request, verbs)
            return
        able = target.model.capabilities if isinstance(target, UpstreamTarget) else ("",)
        if able and not set(verbs) & set(able):
            message = f"The model '{name}' does not support this: it cannot generate video."
            raise UnsupportedCapability(message, param="model")

    def _check_quota(self, scope: HTTPScope, target: Target) -> None:
        """The order is a request as any other. Nothing is reserved for the job, and it has no place among the requests that run
        at once: it may wait for hours. Raises ``RateLimited``.
        """
        state = scope["state"]
        tally = self._ledger.open(state["grant"], path=PATH, body=b"", envelope=Envelope(), choices=[Choice(target=target)])
        if tally.hold is not None:
            state["headers"] = tally.hold.headers
        tally.close(complete=False, failed=True)
