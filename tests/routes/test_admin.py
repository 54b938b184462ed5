"""Keys over HTTP, as operators ask for them, in front of a real file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
import time

import pytest
from litestar.testing import TestClient

from openai_compat.app import create_gateway
from openai_compat.config import Admin, Config, Model, Server, Storage
from openai_compat.keys.file import KeyFile, key_path
from openai_compat.keys.keeper import KeyKeeper
from schemas.admin import CreateKey

KEYS = "/admin/keys"
BASE = "http://127.0.0.1"


def config(folder, **parts) -> Config:
    return Config(
        server=Server(port=0, inline=True),
        storage=Storage(dir=str(folder / "kept")),
        models={"echo": Model(kind="echo"), "other": Model(kind="echo")},
        **parts,
    )


def operator_key(config: Config, **rights) -> str:
    async def make() -> str:
        file = KeyFile(key_path(config))
        try:
            return (await KeyKeeper(file).create(CreateKey(**{"scopes": ("admin",), **rights}))).secret
        finally:
            await file.close()

    return asyncio.run(make())


def two_clients(folder):
    """The clients' listener, and the operators' with a key."""
    settings = config(folder)
    key = operator_key(settings)
    gateway = create_gateway(settings)
    with TestClient(gateway, base_url=BASE) as public, TestClient(gateway.admin, base_url=BASE) as admin:
        admin.headers["authorization"] = f"Bearer {key}"
        yield public, admin


@pytest.fixture
def clients(tmp_path):
    yield from two_clients(tmp_path)


@pytest.fixture(scope="module")
def admin(tmp_path_factory):
    """Of a server whose one key, the operator's, stays the only one."""
    for _, admin in two_clients(tmp_path_factory.mktemp("admin")):
        yield admin
        assert len(admin.get(KEYS).json()["data"]) == 1


def models(public: TestClient, key: str) -> int | list[str]:
    answer = public.get("/v1/models", headers={"x-api-key": key})
    return [model["id"] for model in answer.json()["data"]] if answer.status_code == 200 else answer.status_code


def test_changes_are_in_force_also_where_another_key_s_row_is_damaged(clients, tmp_path, caplog) -> None:
    public, admin = clients
    damaged = admin.post(KEYS, json={}).json()
    with contextlib.closing(sqlite3.connect(key_path(config(tmp_path)))) as connection, connection:
        connection.execute("UPDATE keys SET scopes = 'nonsense', version = version + 1000 WHERE id = ?", (damaged["id"],))
    with caplog.at_level(logging.INFO, logger="openai_compat.audit"):
        made = admin.post(KEYS, json={"models": ["echo"]}).json()
        assert models(public, made["value"]) == ["echo"]
        assert admin.delete(f"{KEYS}/{made['id']}").status_code == 200
        assert models(public, made["value"]) == 401
    assert f"key {made['id']} revoked" in caplog.text


def test_a_key_is_in_force_when_the_answer_comes_and_so_is_each_change_of_it(clients) -> None:
    public, admin = clients
    made = admin.post(KEYS, json={"name": "app", "models": ["echo"], "limits": {"tokens_per_day": 5}}).json()
    assert models(public, made["value"]) == ["echo"]
    assert admin.patch(f"{KEYS}/{made['id']}", json={"models": None}).json()["models"] == []
    assert models(public, made["value"]) == ["echo", "other"]
    assert admin.patch(f"{KEYS}/{made['id']}", json={"scopes": ["chat"]}).json()["scopes"] == ["chat"]
    assert models(public, made["value"]) == 403
    deleted = admin.delete(f"{KEYS}/{made['id']}").json()
    assert deleted == {"id": made["id"], "object": "api_key.deleted", "deleted": True}
    assert models(public, made["value"]) == 401
    assert admin.get(f"{KEYS}/{made['id']}").json()["status"] == "revoked"
    assert admin.delete(f"{KEYS}/{made['id']}").status_code == 200


def test_the_key_itself_is_in_the_answer_that_made_it_and_nowhere_else(clients) -> None:
    _, admin = clients
    made = admin.post(KEYS, json={"name": "app"}).json()
    shown = admin.get(f"{KEYS}/{made['id']}").json()
    assert shown == {name: value for name, value in made.items() if name != "value"}
    assert made["value"] not in admin.get(KEYS).text
    assert (shown["object"], shown["name"], shown["status"], shown["spent"]) == ("api_key", "app", "active", 0.0)


def test_no_answer_with_a_key_is_kept_on_its_way(clients) -> None:
    _, admin = clients
    for answer in (admin.post(KEYS, json={"name": "n"}), admin.get(KEYS)):
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"


def test_keys_are_listed_in_pages(clients) -> None:
    _, admin = clients
    for name in "abc":
        admin.post(KEYS, json={"name": name})
    first = admin.get(KEYS, params={"limit": 2}).json()
    assert ([key["name"] for key in first["data"]], first["has_more"]) == (["", "a"], True)
    rest = admin.get(KEYS, params={"limit": 2, "after": first["last_id"]}).json()
    assert ([key["name"] for key in rest["data"]], rest["has_more"], rest["first_id"]) == (
        ["b", "c"],
        False,
        rest["data"][0]["id"],
    )
    for query in ({"limit": 0}, {"limit": 101}, {"limit": "x"}, {"after": "x" * 65}):
        assert admin.get(KEYS, params=query).status_code == 400


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"nam": "x"}, "nam"),
        ({"limits": {"token_per_day": 5}}, "limits.token_per_day"),
        ({"limits": {"tokens_per_day": -1}}, "limits.tokens_per_day"),
        ({"limits": {"tokens_per_day": 1.5}}, "limits.tokens_per_day"),
        ({"limits": {"tokens_per_day": 10**13}}, "limits.tokens_per_day"),
        ({"limits": {"budget": "5"}}, "limits.budget"),
        ({"limits": None}, "limits"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a\n"}, "name"),
        ({"name": 5}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "scopes[0]"),
        ({"scopes": None}, "scopes"),
        ({"models": ["a*b*"]}, "models[0]"),
        ({"models": [""]}, "models[0]"),
        ({"models": ["x" * 257]}, "models[0]"),
        ({"models": ["m"] * 101}, "models"),
        ({"expires_at": 1}, "expires_at"),
        ({"expires_at": -5}, "expires_at"),
        ({"expires_at": 10**15}, "expires_at"),
        ({"expires_at": True}, "expires_at"),
    ],
)
def test_what_is_wrong_is_named(admin, body, param) -> None:
    answer = admin.post(KEYS, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b"\xff", b"[" * 100_000, b'{"name": "\\ud800"}'])
def test_what_is_no_object_is_a_400(admin, body) -> None:
    answer = admin.post(KEYS, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_what_a_web_page_could_send_unasked_is_no_json(admin) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert admin.post(KEYS, content=b"{}", headers={"content-type": kind}).status_code == 415
    assert admin.post(KEYS, content=b"x" * (1 << 19), headers={"content-type": "application/json"}).status_code == 413


@pytest.mark.parametrize("id", ["nothing", "' OR '1'='1", "%00", "x" * 2000])
def test_an_id_that_no_key_has_is_a_404_that_does_not_repeat_it(admin, id) -> None:
    for answer in (admin.get(f"{KEYS}/{id}"), admin.delete(f"{KEYS}/{id}"), admin.patch(f"{KEYS}/{id}", json={"name": "x"})):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "key_not_found")
        assert id not in answer.text


def test_only_keys_for_operators_open_it(clients) -> None:
    public, admin = clients
    client = admin.post(KEYS, json={}).json()["value"]
    other = admin.post(KEYS, json={"scopes": ["admin"]}).json()["value"]
    assert admin.get(KEYS, headers={"authorization": f"Bearer {client}"}).status_code == 403
    assert admin.get(KEYS, headers={"authorization": f"Bearer {other}"}).status_code == 200
    assert admin.get(KEYS, headers={"authorization": ""}).status_code == 401
    assert models(public, other) == 403  # and it opens nothing else


def test_an_operator_s_key_that_is_revoked_closes_at_once(clients) -> None:
    _, admin = clients
    other = admin.post(KEYS, json={"scopes": ["admin"]}).json()
    headers = {"authorization": f"Bearer {other['value']}"}
    assert admin.delete(f"{KEYS}/{other['id']}", headers=headers).status_code == 200
    assert admin.get(KEYS, headers=headers).status_code == 401


def test_each_change_is_on_record_with_ids_only(clients, caplog) -> None:
    _, admin = clients
    operator = admin.get(KEYS).json()["data"][0]["id"]
    with caplog.at_level(logging.INFO, logger="openai_compat.audit"):
        made = admin.post(KEYS, json={"name": "somebody"}).json()
        admin.patch(f"{KEYS}/{made['id']}", json={"name": "somebody else"})
        admin.delete(f"{KEYS}/{made['id']}")
        admin.patch(f"{KEYS}/{made['id']}", json={"name": "x"})
    lines = [record.getMessage() for record in caplog.records if record.name == "openai_compat.audit"]
    assert lines == [f"key {made['id']} {what} by {operator}" for what in ("created", "updated", "revoked")]
    assert not any("somebody" in line or made["value"] in line for line in lines)


def test_a_unix_socket_needs_no_key_since_only_its_owner_can_open_it(tmp_path) -> None:
    gateway = create_gateway(config(tmp_path, admin=Admin(listen=f"unix:{tmp_path}/admin.sock")))
    with TestClient(gateway, base_url=BASE) as public, TestClient(gateway.admin, base_url=BASE) as admin:
        assert public.get("/v1/models").status_code == 200  # no keys yet
        key = admin.post(KEYS, json={"expires_at": int(time.time()) + 3600}).json()["value"]
        assert public.get("/v1/models").status_code == 401
        assert models(public, key) == ["echo", "other"]


def test_where_keys_have_no_place_that_is_said_without_a_path(tmp_path, caplog) -> None:
    gateway = create_gateway(Config(server=Server(port=0, cache_dir=str(tmp_path)), admin=Admin(listen="unix:/x")))
    with TestClient(gateway.admin, base_url=BASE) as admin:
        answer = admin.post(KEYS, json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
    assert str(tmp_path) not in answer.text
    assert "storage.dir" in caplog.text


def test_a_restart_knows_the_keys(tmp_path) -> None:
    settings = config(tmp_path)
    key = operator_key(settings, scopes=("models",))
    for _ in range(2):
        with TestClient(create_gateway(settings), base_url=BASE) as public:
            assert models(public, key) == ["echo", "other"]
            assert models(public, "") == 401


def test_nothing_of_a_key_is_in_the_metrics_or_the_document(clients) -> None:
    public, admin = clients
    made = admin.post(KEYS, json={"scopes": ["metrics"]}).json()
    assert public.get("/metrics", headers={"x-api-key": made["value"]}).status_code == 200
    assert "/admin" not in json.dumps(public.get("/schema/openapi.json", headers={"x-api-key": made["value"]}).json())
