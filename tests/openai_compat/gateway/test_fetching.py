"""URLs in requests, where the gateway lets them through, and where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from openai_compat.app import create_gateway
from openai_compat.config import Config, ConfigError, Media, Model, Server
from openai_compat.gateway.fetching import fetch_rules
from openai_compat.protocol import FetchRules, RelayFacts
from openai_compat.settings import load

PART = {"type": "image_url", "image_url": {"url": "http://127.0.0.1/a.png"}}
BODY = {"model": "echo", "messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, PART]}]}
FIELD = "messages[0].content[1].image_url"


def asked(tmp_path: Path, media: Media) -> tuple[Any, str]:
    """The answer to a chat with a URL, and the metrics afterwards."""
    (tmp_path / "nothing").mkdir()
    models = {"echo": Model(source=str(tmp_path / "nothing"), kind="echo")}
    config = Config(server=Server(inline=True, cache_dir=str(tmp_path)), models=models, media=media)
    with TestClient(create_gateway(config), base_url="http://127.0.0.1") as client:
        answer = client.post("/v1/chat/completions", json=BODY)
        metrics = client.get("/metrics").text
    return answer, metrics


def test_without_the_setting_a_url_is_refused_before_any_model_is_loaded(tmp_path) -> None:
    answer, metrics = asked(tmp_path, Media())
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, FIELD, "unsupported_parameter")
    assert "media.remote_urls" in error["message"]
    assert "127" not in error["message"]
    assert 'openai_compat_models{state="unloaded"} 1.0' in metrics


def test_with_the_setting_it_is_the_worker_who_looks_where_it_leads(tmp_path) -> None:
    answer, metrics = asked(tmp_path, Media(remote_urls=True))
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, FIELD, "invalid_image_url")
    assert "127" not in error["message"]
    assert 'openai_compat_models{state="ready"} 1.0' in metrics


def test_a_worker_is_told_what_the_configuration_says_and_nothing_where_it_is_off() -> None:
    assert fetch_rules(Media()) is None
    media = Media(remote_urls=True, hosts=("*.example.com",), max_bytes="1MiB", timeout=2.5)
    rules = FetchRules(max_bytes=1 << 20, timeout=2.5, hosts=("*.example.com",))
    assert fetch_rules(media) == rules
    facts = RelayFacts(request_id="r", model="m", public_model="m", fetch=rules)
    assert RelayFacts.from_headers(facts.to_headers()).fetch == rules
    assert "fetch" not in str(RelayFacts(request_id="r", model="m", public_model="m").to_headers())


@pytest.mark.parametrize("host", ["img.example.com", "*.example.com", "1.1.1.1", "2606:4700::1111", "a"])
def test_a_host_or_what_is_below_one_can_be_listed(tmp_path, host) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'[media]\nhosts = ["{host}"]\n')
    assert load(path, {"HOME": str(tmp_path)}).media.hosts == (host,)


@pytest.mark.parametrize("setting", [*(f'hosts = ["{host}"]' for host in (
    "", "*", "*example.com", "img.*", "*.*.com", "a*.example.com", "https://example.com", "example.com/", "Example.com",
    "example.com:80", "user@example.com", "exämple.com", ".example.com", "example.com.",
)), 'max_bytes = "many"', 'max_bytes = "50%"', "timeout = 0"])  # fmt: skip
def test_what_would_let_in_other_hosts_or_everything_is_refused(tmp_path, setting) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"[media]\n{setting}\n")
    with pytest.raises(ConfigError, match=setting.partition(" ")[0]):
        load(path, {"HOME": str(tmp_path)})
