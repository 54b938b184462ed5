"""Where operators may be served."""

from __future__ import annotations

import pytest

from openai_compat.config import ConfigError
from openai_compat.settings import load


def listen(address: str, **more: str) -> str:
    return load(None, {"HOME": "/nowhere", "OPENAI_COMPAT_ADMIN__LISTEN": address, **more}).admin.listen


@pytest.mark.parametrize("address", ["", "127.0.0.1:8001", "[::1]:8001", "localhost:0", "unix:/run/x/admin.sock"])
def test_this_machine_and_its_sockets_are_good(address: str) -> None:
    assert listen(address) == address


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("unix:admin.sock", "begins with '/'"),
        ("unix:", "begins with '/'"),
        ("8001", "is no address"),
        (":8001", "is no address"),
        ("127.0.0.1:", "is no address"),
        ("127.0.0.1:99999", "is no address"),
        ("127.0.0.1:٣", "is no address"),
        ("0.0.0.0:8001", "unencrypted"),
        ("[::]:8001", "unencrypted"),
        ("localhost.example.com:8001", "unencrypted"),
    ],
)
def test_anything_else_is_refused_in_one_line(address: str, words: str) -> None:
    with pytest.raises(ConfigError, match="ADMIN__LISTEN") as refusal:
        listen(address)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_other_machines_operators_are_served_by_tls() -> None:
    tls = {"OPENAI_COMPAT_SERVER__TLS_CERT": "/c.pem", "OPENAI_COMPAT_SERVER__TLS_KEY": "/k.pem"}
    assert listen("0.0.0.0:8001", **tls) == "0.0.0.0:8001"
