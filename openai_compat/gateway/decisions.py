"""`/v1/decisions` behind its route: each question is asked as chats, a few of them at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from litestar.types import HTTPScope, Receive

from openai_compat.config import Config
from openai_compat.errors import APIError
from openai_compat.gateway.asking import Asker
from openai_compat.gateway.chats import Chats
from openai_compat.gateway.intake import Intake
from openai_compat.gateway.offers import Offers
from openai_compat.gateway.order import LocalTarget
from openai_compat.grants import Grant
from openai_compat.translate.decided import Shares, joined, shares_of, to_answer, together, usage_of
from openai_compat.translate.decisions import Asked, asked_of, chat_of, groups_of, param_in, to_input
from openai_compat.translate.responses.turn import Turn
from schemas.answers import ReadAnswer
from schemas.decisions import CreateDecisionRequest, Decision

_AT_ONCE = 8
_WORTH = 0.01  # the least share of a group whose options are asked about
_UNTHINKING = {"chat_template_kwargs": {"enable_thinking": False}}


class DecisionDesk:
    """``config`` and ``offers`` give what is in force. Every method raises ``APIError`` for a refusal."""

    def __init__(self, chats: Chats, intake: Intake, config: Callable[[], Config], offers: Callable[[], Offers]) -> None:
        self._chats = chats
        self._intake = intake
        self._config = config
        self._offers = offers

    async def read(self, scope: HTTPScope, receive: Receive) -> CreateDecisionRequest:
        return await self._intake.read(scope, receive, CreateDecisionRequest)

    async def decide(self, request: CreateDecisionRequest, scope: HTTPScope) -> Decision:
        """Left early, the model's work is cancelled."""
        turn, asker = to_input(request), Asker.of(scope)
        extra = _UNTHINKING if self._is_here(request.model, asker.grant) else {}
        session = _Session(self._chats, turn, asker, extra, self._at_once(asker.grant))
        shares = await session.answers([asked_of(question) for question in request.questions])
        answers = [to_answer(question, share) for question, share in zip(request.questions, shares, strict=True)]
        return Decision(model=session.heard[0].model or request.model, answers=answers, usage=usage_of(session.heard))

    def _is_here(self, model: str, grant: Grant) -> bool:
        """Whether nobody else is asked: only our own models know how to be told not to think first."""
        choices = self._offers().find(model, grant).choices
        return all(isinstance(choice.target, LocalTarget) for choice in choices)

    def _at_once(self, grant: Grant) -> int:
        """No more than the key may have under way."""
        own = grant.limits.concurrent_requests
        limit = self._config().metering.concurrent_requests if own is None else own
        return min(_AT_ONCE, limit or _AT_ONCE)


class _Session:
    """All chats of one request. The first one is asked alone, so that the others find what was computed of the input."""

    def __init__(self, chats: Chats, turn: Turn, asker: Asker, extra: dict[str, Any], at_once: int) -> None:
        self.heard: list[ReadAnswer] = []
        self._chats = chats
        self._turn = turn
        self._asker = asker
        self._extra = extra
        self._room = asyncio.Semaphore(at_once)
        self._begun = False
        self._prepared = asyncio.Event()

    async def answers(self, questions: Sequence[Asked]) -> list[Shares | None]:
        """Of each question how likely its options are; None where the model answers with something else."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._answer(number, asked)) for number, asked in enumerate(questions)]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _answer(self, number: int, asked: Asked) -> Shares | None:
        try:
            return await self._decided(asked)
        except APIError as error:
            error.param = param_in(self._turn, number, error.param)
            raise

    async def _decided(self, asked: Asked) -> Shares | None:
        groups = groups_of(asked.options)
        if len(groups) == 1:
            return await self._shares(asked)
        sorts = [[asked.options[i] for i in group] for group in groups]
        shares = await self._shares(asked.among(map("; ".join, sorts), grouped=True))
        if shares is None:
            return None
        within = [
            await self._shares(asked.among(options)) if share >= _WORTH else None
            for share, options in zip(shares, sorts, strict=True)
        ]
        return joined(shares, within, [len(options) for options in sorts])

    async def _shares(self, asked: Asked) -> Shares | None:
        """In both orders, since a model likes some letters and places better than others."""
        forward = await self._told(asked, reverse=False)
        return None if forward is None else together(forward, await self._told(asked, reverse=True))

    async def _told(self, asked: Asked, *, reverse: bool) -> Shares | None:
        leads, self._begun = not self._begun, True
        if not leads:
            await self._prepared.wait()
        try:
            async with self._room:
                answer = await self._chats.whole({**chat_of(self._turn, asked, reverse=reverse), **self._extra}, self._asker)
        finally:
            if leads:
                self._prepared.set()
        self.heard.append(answer)
        return shares_of(answer, len(asked.options))
