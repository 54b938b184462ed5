"""Settings about connections: mistakes in them are named before anything is started."""

from __future__ import annotations

import pytest

from openai_compat.config import ConfigError
from openai_compat.settings import load


def message(tmp_path, server: str) -> str:
    path = tmp_path / "config.toml"
    path.write_text(f"[server]\n{server}\n")
    with pytest.raises(ConfigError) as refusal:
        load(path, {})
    return str(refusal.value)


@pytest.mark.parametrize("proxy", ["0.0.0.0/0", "::/0", "*", "proxy.example", "10.0.0.1/24", ""])
def test_everybody_is_no_proxy_and_names_are_none(tmp_path, proxy: str) -> None:
    said = message(tmp_path, f'trusted_proxies = ["10.0.0.7", "{proxy}"]')
    assert "config.toml" in said
    assert f"server.trusted_proxies: '{proxy}' is not the address or network of a proxy" in said


@pytest.mark.parametrize(("given", "missing"), [("tls_cert", "tls_key"), ("tls_key", "tls_cert")])
def test_a_certificate_and_its_key_go_together(tmp_path, given: str, missing: str) -> None:
    assert f"server.{given}: a certificate and its key go together: set server.{missing}, too" in message(
        tmp_path, f'{given} = "file.pem"'
    )


@pytest.mark.parametrize("name", ["max_connections", "max_in_flight"])
def test_somebody_must_be_let_in(tmp_path, name: str) -> None:
    assert f"server.{name}: expected int >= 1, got 0" in message(tmp_path, f"{name} = 0")
