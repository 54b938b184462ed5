"""What is said of a certificate's age, and what happens to those that are renewed."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from openai_compat.certificates import Certificates, age_of
from openai_compat.config import ConfigError, Server
from openai_compat.http.tls import server_context

DAY = 86_400


def make(folder: Path, name: str, *dates: str) -> Server:
    command = shutil.which("openssl")
    if command is None:
        pytest.skip("there is no openssl to make certificates with")
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}")
    files = ("-keyout", str(key), "-out", str(cert))
    subprocess.run([command, "req", "-x509", *new, *files, *(dates or ("-days", "10"))], check=True, capture_output=True)
    return Server(tls_cert=str(cert), tls_key=str(key))


def age(server: Server, now: float) -> str:
    return age_of(server_context(server.tls_cert, server.tls_key), server.tls_cert, now)


def ends(server: Server) -> float:
    command = ["openssl", "x509", "-enddate", "-noout", "-in", server.tls_cert]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return ssl.cert_time_to_seconds(shown.partition("=")[2].strip())


def test_one_that_ends_soon_is_worth_a_warning_and_one_that_does_not_is_none(tmp_path: Path) -> None:
    server = make(tmp_path, "ten-days")
    assert age(server, ends(server) - 10 * DAY) == "expires in 10 days"
    assert age(server, ends(server) - 20 * DAY) == ""


def test_one_that_has_ended_is_told_and_served_all_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = make(tmp_path, "old")
    request = tmp_path / "request.pem"
    command, key = str(shutil.which("openssl")), server.tls_key
    subprocess.run([command, "req", "-new", "-key", key, "-subj", "/CN=old", "-out", request], check=True)
    again = [command, "x509", "-req", "-in", request, "-signkey", key, "-days", "-1", "-out", server.tls_cert]
    if subprocess.run(again, check=False, capture_output=True).returncode:
        pytest.skip("this openssl makes no certificate that has ended")
    assert age(server, ends(server) + DAY) == "has expired"
    assert Certificates.of(server) is not None
    assert caplog.messages == [f"the certificate '{server.tls_cert}' has expired"]


def test_without_a_certificate_there_is_no_encryption() -> None:
    assert Certificates.of(Server()) is None


def test_renewed_files_are_in_force_once_they_are_put_in_force_and_bad_ones_never(tmp_path: Path) -> None:
    first, second = make(tmp_path, "first"), make(tmp_path, "second")
    certificates = Certificates(first.tls_cert, first.tls_key)
    assert served(certificates) == "first"
    for suffix in ("cert", "key"):
        shutil.copy(getattr(second, f"tls_{suffix}"), getattr(first, f"tls_{suffix}"))
    put_in_force = certificates.renewed()
    assert served(certificates) == "first"
    put_in_force()
    assert served(certificates) == "second"
    Path(first.tls_key).write_text("nonsense")
    with pytest.raises(ConfigError, match="cannot be used"):
        certificates.renewed()
    Path(first.tls_cert).unlink()
    with pytest.raises(ConfigError, match="no certificate at"):
        certificates.renewed()
    assert served(certificates) == "second"


def served(certificates: Certificates) -> str:
    """The name that a client sees, who asks for no name."""
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname, client_context.verify_mode = False, ssl.CERT_NONE
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = certificates.context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server)
    for _ in range(3):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown = client.getpeercert(binary_form=True) or b""
    return "second" if b"second" in shown else "first" if b"first" in shown else ""
