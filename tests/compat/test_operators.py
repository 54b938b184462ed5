"""The operators' listener and certificates, on a real server: who is let in, and what a reload renews."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

COMMAND = shutil.which("openssl")


def make(folder: Path, name: str) -> None:
    """A certificate and its key, in the files that the server reads."""
    if COMMAND is None:
        pytest.skip("there is no openssl to make certificates with")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj", f"/CN={name}")
    names = ("-addext", "subjectAltName=IP:127.0.0.1")
    files = ("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"))
    subprocess.run([COMMAND, "req", "-x509", *new, *names, *files], check=True, capture_output=True)


class Secured:
    """A server that speaks TLS, with an address for operators."""

    def __init__(self, serve: Any, folder: Path) -> None:
        self.folder = folder
        make(folder, "first")
        self._config = folder / "config.toml"
        self._config.write_text(
            f'[server]\ntls_cert = "{folder}/cert.pem"\ntls_key = "{folder}/key.pem"\n[admin]\nlisten = "127.0.0.1:0"\n'
            f'[storage]\ndir = "{folder}/storage"\n[models.echo]\nkind = "echo"\n'
        )
        self.admin_key = self.make_key(serve, "--scope", "admin")
        self.key = self.make_key(serve)
        self.server = serve(self._config, folder, env={"OPENAI_COMPAT_CACHE_DIR": str(folder / "cache")})
        self.operators = self.told(r"operators are served on (https://\S+)")

    def make_key(self, serve: Any, *more: str) -> str:
        command = [serve.__init__.__globals__["COMMAND"], "key", "create", "--config", self._config, *more]
        made = subprocess.run(command, check=True, capture_output=True, text=True, env={"HOME": str(self.folder)})
        return re.search(r"sk-[\w-]+", made.stdout)[0]

    def told(self, pattern: str) -> str:
        """What the log says a moment after it names the clients' address."""
        deadline = time.monotonic() + 30
        while (found := re.search(pattern, self.server.log.read_text())) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return found[1] if found else ""

    def reload(self, key: str | None) -> httpx2.Response:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        trust = ssl.create_default_context(cafile=self.folder / "cert.pem")
        return httpx2.post(f"{self.operators}/admin/reload", headers=headers, verify=trust, timeout=30)

    def reload_trusting_nobody(self) -> int:
        """For when the files are newer than the certificate in force."""
        headers = {"authorization": f"Bearer {self.admin_key}"}
        return httpx2.post(f"{self.operators}/admin/reload", headers=headers, verify=False, timeout=30).status_code


@pytest.fixture(scope="module")
def secured(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    running = Secured(serve, tmp_path_factory.mktemp("secured"))
    yield running
    assert running.server.stop() == 0


def connected(secured: Secured) -> ssl.SSLSocket:
    trust = ssl.create_default_context(cafile=secured.folder / "cert.pem")
    address = httpx2.URL(secured.server.origin)
    return trust.wrap_socket(socket.create_connection((address.host, address.port), timeout=20), server_hostname=address.host)


def name(connection: ssl.SSLSocket) -> str:
    return str(dict(pair for part in connection.getpeercert()["subject"] for pair in part)["commonName"])


def answer(connection: ssl.SSLSocket) -> bytes:
    connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    return connection.recv(4096)


def test_clients_are_told_an_address_with_https(secured: Secured) -> None:
    assert secured.server.origin.startswith("https://127.0.0.1:")
    assert secured.told(r"try it: curl (\S+)/chat/completions") == secured.server.base_url


def test_over_tcp_an_operator_has_a_key_for_it_and_nobody_else_is_let_in(secured: Secured) -> None:
    codes = {key: secured.reload(key).status_code for key in (None, "sk-wrong", secured.key, secured.admin_key)}
    assert codes == {None: 401, "sk-wrong": 401, secured.key: 403, secured.admin_key: 200}


def test_what_operators_are_served_is_nowhere_on_the_clients_listener(secured: Secured) -> None:
    trust = ssl.create_default_context(cafile=secured.folder / "cert.pem")
    with httpx2.Client(base_url=secured.server.origin, verify=trust, timeout=30) as client:
        for path in ("/admin/reload", "/admin/keys", "//admin//reload", "/v1/../admin/reload"):
            for key in (secured.key, secured.admin_key):
                found = client.post(path, headers={"authorization": f"Bearer {key}"})
                assert found.status_code in (403, 404), path


def test_a_renewed_certificate_is_for_new_connections_and_those_that_are_open_stay(secured: Secured) -> None:
    make(secured.folder, "second")
    assert secured.reload_trusting_nobody() == 200
    with connected(secured) as old:
        assert name(old) == "second"
        assert b"200 OK" in answer(old)
        make(secured.folder, "third")
        assert secured.reload_trusting_nobody() == 200
        with connected(secured) as new:
            assert (name(old), name(new)) == ("second", "third")
            assert b"200 OK" in answer(old)
            assert b"200 OK" in answer(new)


def test_files_that_are_no_certificate_keep_the_one_in_force(secured: Secured) -> None:
    make(secured.folder, "good")
    assert secured.reload_trusting_nobody() == 200
    good = (secured.folder / "key.pem").read_text()
    (secured.folder / "key.pem").write_text("nonsense")
    refusal = secured.reload(secured.admin_key)
    assert refusal.status_code == 400
    assert "cannot be used" in refusal.json()["error"]["message"]
    with connected(secured) as connection:
        assert name(connection) == "good"
    (secured.folder / "key.pem").write_text(good)


def test_strangers_at_the_operators_door_take_a_bounded_number_of_connections(secured: Secured) -> None:
    """Each takes a file descriptor of the one process that serves clients, too."""
    url = httpx2.URL(secured.operators)
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE

    def arrive() -> socket.socket:
        return blind.wrap_socket(socket.create_connection((url.host, url.port), timeout=30))

    with ExitStack() as strangers:
        for _ in range(64):
            strangers.enter_context(arrive())
        with arrive() as one_too_many:
            assert b" 503 " in one_too_many.recv(4096)
        with httpx2.Client(base_url=secured.server.origin, verify=False, timeout=30) as client:
            assert client.get("/health/live").status_code == 200
    deadline = time.monotonic() + 30
    while (status := secured.reload(secured.admin_key).status_code) == 503 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert status == 200
