from typing import Any

import pytest
from litestar import Litestar
from litestar.di import Provide
from litestar.testing import TestClient
from litestar.types import ASGIApp, Receive, Scope, Send

from openai_compat.grants import Grant
from openai_compat.http.errors import exception_handlers
from routes.usage import UsageController
from schemas.usage import DayUsage, LimitUsage, UsageCounts, UsageList, UsageQuery


class Fixed:
    def __init__(self) -> None:
        self.asked: list[tuple[str, UsageQuery]] = []

    async def usage(self, grant: Grant, query: UsageQuery) -> UsageList:
        self.asked.append((grant.key_id, query))
        day = DayUsage(date="2026-11-22", model="m", requests=1, prompt_tokens=2, total_tokens=2, cost=0.5)
        return UsageList(
            data=(day,),
            total=UsageCounts(requests=1, prompt_tokens=2, total_tokens=2, cost=0.5),
            limits={"tokens_per_day": LimitUsage(limit=100, used=2, remaining=98)},
        )


def client_of(reader: Fixed) -> TestClient[Any]:
    def keyed(app: ASGIApp) -> ASGIApp:
        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            scope["state"]["grant"] = Grant(key_id="0123456789abcdef")
            await app(scope, receive, send)

        return call

    return TestClient(
        Litestar(
            [UsageController],
            dependencies={"usage_reader": Provide(lambda: reader, sync_to_thread=False)},
            middleware=[keyed],
            exception_handlers=exception_handlers,
            logging_config=None,
        )
    )


def test_a_key_asks_for_itself_whatever_its_query_says() -> None:
    reader = Fixed()
    with client_of(reader) as client:
        answer = client.get("/v1/usage?days=7&model=m&key_id=other")
    assert reader.asked == [("0123456789abcdef", UsageQuery(days=7, model="m"))]
    assert answer.json() == {
        "object": "list",
        "data": [
            {
                "object": "usage.day",
                "date": "2026-11-22",
                "model": "m",
                "requests": 1,
                "prompt_tokens": 2,
                "cached_tokens": 0,
                "completion_tokens": 0,
                "total_tokens": 2,
                "estimated_tokens": 0,
                "cost": 0.5,
            }
        ],
        "total": {
            "requests": 1,
            "prompt_tokens": 2,
            "cached_tokens": 0,
            "completion_tokens": 0,
            "total_tokens": 2,
            "estimated_tokens": 0,
            "cost": 0.5,
        },
        "limits": {"tokens_per_day": {"limit": 100, "used": 2, "remaining": 98}},
    }


@pytest.mark.parametrize("query", ["days=0", "days=367", "days=many"])
def test_a_query_that_makes_no_sense_is_refused_by_name(query: str) -> None:
    with client_of(Fixed()) as client:
        answer = client.get(f"/v1/usage?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "days")
