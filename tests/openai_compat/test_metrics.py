"""What Prometheus reads of tokens and costs."""

from __future__ import annotations

from prometheus_client import generate_latest

from openai_compat.config import Metering, Price
from openai_compat.gateway.metering.ledger import Ledger
from openai_compat.gateway.order import Envelope
from openai_compat.grants import Grant
from openai_compat.metrics import Metrics


def spend(ledger: Ledger, key: str, label: str, *, estimated: bool = False) -> None:
    tally = ledger.open(Grant(key_id=key), path="/v1/chat/completions", body=b"12345678", envelope=Envelope())
    tally.aim(label, Price(prompt=0.1, completion=0.2))
    if not estimated:
        tally.used(100, 10, 30)
    tally.close(complete=True)


def lines(metrics: Metrics, name: str) -> list[str]:
    text = generate_latest(metrics.registry).decode()
    return [line for line in text.splitlines() if line.startswith(name + "{")]


def test_tokens_and_costs_are_told_by_model_and_key() -> None:
    ledger = Ledger(Metering())
    metrics = Metrics(used=ledger.used)
    assert lines(metrics, "openai_compat_tokens_total") == []
    for _ in range(1000):
        spend(ledger, "0123456789abcdef", "m")
    spend(ledger, "", "other", estimated=True)
    told = lines(metrics, "openai_compat_tokens_total")
    assert told[:4] == [
        'openai_compat_tokens_total{key="0123456789abcdef",kind="prompt",model="m"} 100000.0',
        'openai_compat_tokens_total{key="0123456789abcdef",kind="cached",model="m"} 30000.0',
        'openai_compat_tokens_total{key="0123456789abcdef",kind="completion",model="m"} 10000.0',
        'openai_compat_tokens_total{key="0123456789abcdef",kind="estimated",model="m"} 0.0',
    ]
    assert 'openai_compat_tokens_total{key="",kind="estimated",model="other"} 2.0' in told
    assert 'openai_compat_cost_total{key="0123456789abcdef",model="m"} 0.012' in lines(metrics, "openai_compat_cost_total")
