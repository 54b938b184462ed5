"""Certificates: what is taken, and what is said of the others."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from openai_compat.http.server import ListenError
from openai_compat.http.tls import server_context


def make(folder: Path, name: str, *more: str) -> tuple[str, str]:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make certificates with")
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", str(key), "-out", str(cert), "-days", "2")
    command = ["openssl", "req", "-x509", *new, "-subj", f"/CN={name}", *(more or ("-nodes",))]
    subprocess.run(command, check=True, capture_output=True)
    return str(cert), str(key)


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[str, str]:
    return make(tmp_path_factory.mktemp("certificates"), "one")


def test_old_versions_of_tls_are_not_spoken(pair) -> None:
    assert server_context(*pair).minimum_version == ssl.TLSVersion.TLSv1_2


def test_files_that_are_not_there_are_named(pair, tmp_path) -> None:
    with pytest.raises(ListenError, match=r"no key at '.*missing\.key'"):
        server_context(pair[0], str(tmp_path / "missing.key"))


def test_what_is_no_certificate_is_one_line(pair, tmp_path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    with pytest.raises(ListenError, match="cannot be used") as refusal:
        server_context(str(nonsense), pair[1])
    assert "\n" not in str(refusal.value)


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path) -> None:
    with pytest.raises(ListenError, match="protected by a password"):
        server_context(*make(tmp_path, "locked", "-passout", "pass:secret"))


def test_a_certificate_and_anothers_key_do_not_go_together(pair, tmp_path) -> None:
    with pytest.raises(ListenError, match="cannot be used"):
        server_context(pair[0], make(tmp_path, "other")[1])


def test_a_client_sees_the_certificate(pair) -> None:
    assert served(server_context(*pair), pair[0]) == "one"


def served(context: ssl.SSLContext, trusted: str) -> str:
    """The name on the certificate that a client sees, who trusts that in the file ``trusted``."""
    client_context = ssl.create_default_context(cafile=trusted)
    client_context.check_hostname = False
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server)
    for _ in range(3):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = client.getpeercert()
    return dict(pair for part in certificate["subject"] for pair in part)["commonName"]
