"""What a key may use: the name that the client wrote decides, and what is hidden cannot be told from what does not exist."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from openai_compat.config import Config, Model, Route, Upstream, UpstreamModel
from openai_compat.errors import APIError, ModelNotFound, Unavailable
from openai_compat.gateway.catalog import Catalog
from openai_compat.gateway.listing import Listed
from openai_compat.gateway.offers import Offers
from openai_compat.gateway.order import LocalTarget
from openai_compat.grants import Grant

URL = "http://127.0.0.1:1/v1"
ECHO = Model(kind="echo")


class Lists:
    version = 0

    def __init__(self, **lists: Mapping[str, Listed]) -> None:
        self.lists = lists

    def listed(self, upstream: str) -> Mapping[str, Listed] | None:
        return self.lists.get(upstream)

    def awaited(self, upstream: str) -> bool:
        return upstream not in self.lists


@pytest.fixture
def offers() -> Offers:
    config = Config(
        models={"llama": ECHO, "llama:70b": ECHO, "llama-secret": ECHO, "other": ECHO},
        routes={"fast": Route(targets=("llama-secret", "other")), "llama:route": Route(targets=("late/x",))},
        aliases={"gpt": "llama-secret", "poet": "other:shout", "llama-typo": "nowhere"},
        upstreams={
            "lab": Upstream(base_url=URL, models={"lab/*": UpstreamModel(name="*")}, discover=True),
            "late": Upstream(base_url=URL, models={"late/*": UpstreamModel(name="*")}, discover=True),
        },
    )
    listed = {"big": Listed(modes=("creative",), capabilities=("generate_video",)), "small": Listed()}
    return Offers(config, Catalog(config), Lists(lab=listed))


def refusal(offers: Offers, name: str, *models: str) -> tuple[type[APIError], str, object]:
    with pytest.raises(APIError) as caught:
        offers.find(name, Grant(models=models))
    return type(caught.value), caught.value.message.replace(f"'{name}'", "'…'"), caught.value.retry_after


@pytest.mark.parametrize(
    ("models", "usable"),
    [
        (("llama",), {"llama", "llama:shout"}),
        (("llama*",), {"llama-secret", "llama:shout"}),
        (("fast",), {"fast"}),
        (("gpt", "poet"), {"gpt", "poet", "gpt:shout"}),
        (("lab/*",), {"lab/big", "lab/small", "lab/big:creative"}),
        (("lab/big",), {"lab/big", "lab/big:creative"}),
        (("llama:shout",), {"llama:shout"}),
    ],
)
def test_the_name_that_is_written_decides_or_that_of_the_model_whose_mode_it_is(offers, models, usable) -> None:
    names = {"llama", "llama:shout", "llama-secret", "llama-typo", "fast", "gpt", "poet", "other", "lab/big", "lab/small"}
    names |= {"lab/big:creative", "gpt:shout"}
    found = set()
    for name in names:
        try:
            offers.find(name, Grant(models=models))
        except APIError:
            continue
        found.add(name)
    assert found == usable


@pytest.mark.parametrize("hidden", ["llama-secret", "other", "fast", "gpt", "lab/big", "lab/big:creative", "poet", "llama-70b"])
def test_a_hidden_model_is_refused_in_the_words_of_one_that_does_not_exist(offers, hidden) -> None:
    made_up = hidden[:-1] + "\u00e9"
    assert refusal(offers, hidden, "llama") == refusal(offers, made_up, "llama")
    assert refusal(offers, hidden, "zebra") == (ModelNotFound, "The model '…' does not exist.", None)


@pytest.mark.parametrize("hidden", ["llama:70b", "llama:route"])
def test_a_hidden_model_whose_name_looks_like_a_mode_of_one_that_may_be_used_is_taken_for_that(offers, hidden) -> None:
    for name in (hidden, "llama:made-up"):
        target = offers.find(name, Grant(models=("llama",))).only
        assert isinstance(target, LocalTarget)
        assert (target.model_id, target.mode) == ("llama", name.removeprefix("llama:"))
        assert refusal(offers, name, "other") == (ModelNotFound, "The model '…' does not exist.", None)


def test_hints_name_nothing_that_is_hidden(offers) -> None:
    assert refusal(offers, "llamas", "llama", "zebra")[1] == "The model '…' does not exist. Did you mean: llama?"
    assert refusal(offers, "llama-secre", "other")[1] == "The model '…' does not exist."
    assert refusal(offers, "lamma-secret")[1].endswith("Did you mean: llama-secret, llama-typo, llama:route?")


def test_while_an_upstream_has_not_said_what_it_has_a_hidden_name_of_its_pattern_is_as_unknown_as_any(offers) -> None:
    assert refusal(offers, "late/x", "other") == refusal(offers, "late/y", "other")
    assert refusal(offers, "late/x", "late/*")[0] is Unavailable


@pytest.mark.parametrize("name", ["x" * 300, "a\nb", ""])
def test_names_that_can_be_none_are_refused_alike_with_every_key(offers, name) -> None:
    assert refusal(offers, name, "llama")[:2] == refusal(offers, name)[:2]


def test_a_request_without_a_model_gets_only_one_that_the_key_may_use(offers) -> None:
    assert offers.able(("generate_video",)) == "lab/big"
    assert offers.able(("generate_video",), Grant(models=("lab/small", "llama"))) is None
