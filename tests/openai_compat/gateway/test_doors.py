"""A model that says that it is full is not asked again before it may have room."""

from __future__ import annotations

import pytest

from openai_compat.errors import RateLimited
from openai_compat.gateway.doors import Doors


def test_a_model_that_is_shut_is_not_asked_until_its_time_is_over_and_the_others_are() -> None:
    now = [100.0]
    doors = Doors(lambda: now[0])
    doors.check("a")
    doors.heard("a", [(b"x-oc-shut", b"0.250")], RateLimited("Full.", retry_after=7.0))
    doors.check("b")
    now[0] += 0.2
    with pytest.raises(RateLimited) as caught:
        doors.check("a")
    assert (caught.value.message, caught.value.retry_after) == ("Full.", 7.0)
    now[0] += 0.1
    doors.check("a")


def test_a_refusal_for_one_request_alone_shuts_nothing() -> None:
    doors = Doors()
    doors.heard("a", [(b"content-type", b"application/json")], RateLimited("You.", retry_after=7.0))
    doors.heard("a", [(b"x-oc-shut", b"0.000")], RateLimited("You.", retry_after=7.0))
    doors.check("a")
