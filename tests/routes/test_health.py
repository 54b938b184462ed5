import pytest
from litestar import Litestar
from litestar.di import Provide
from litestar.testing import TestClient

from routes.health import HealthController
from schemas.health import Health


class Fixed:
    def __init__(self, status: str) -> None:
        self._status = status

    def health(self) -> Health:
        return Health(status=self._status)


def client_of(status: str) -> TestClient:
    readiness = Provide(lambda: Fixed(status), sync_to_thread=False)
    return TestClient(Litestar([HealthController], dependencies={"readiness": readiness}, logging_config=None))


def test_a_server_that_answers_is_alive_whatever_its_models_do():
    with client_of("loading") as client:
        answer = client.get("/health/live")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


@pytest.mark.parametrize(("status", "code"), [("ok", 200), ("loading", 503)])
def test_readiness_is_a_status_and_tells_nothing_of_the_models_to_whoever_has_no_key(status, code):
    with client_of(status) as client:
        answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()) == (code, {"status": status})
