import pytest
from msgspec import Struct

from openai_compat.errors import InvalidRequest
from openai_compat.http.endpoint import Endpoint


class Body(Struct):
    prompt: str


def plan(body: Body) -> str:
    if not body.prompt:
        raise InvalidRequest("prompt is empty", param="prompt")
    return "generate_text"


def test_a_route_tells_how_to_decode_and_check_its_body():
    endpoint = Endpoint(request=Body, plan=plan)
    assert endpoint.plan(endpoint.request(prompt="a")) == "generate_text"
    with pytest.raises(InvalidRequest):
        endpoint.plan(Body(prompt=""))


def test_an_endpoint_cannot_be_changed_once_declared():
    with pytest.raises(AttributeError):
        Endpoint(request=Body, plan=plan).plan = print
