"""What names stand for: local models, routes, upstreams' models, aliases, modes and patterns, in this order."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from openai_compat.config import Config, Model, Price, Route, RouteTarget, Upstream, UpstreamModel
from openai_compat.errors import APIError, ModelNotFound, Unavailable
from openai_compat.gateway.catalog import Catalog
from openai_compat.gateway.listing import Listed
from openai_compat.gateway.offers import REMEMBERED, Offers
from openai_compat.gateway.order import Destination, LocalTarget, UpstreamTarget

URL = "http://127.0.0.1:1/v1"
LOCAL = Model(kind="echo", price=Price(prompt=1.0))
NO_FIELDS = UpstreamModel()


class Lists:
    """Upstreams that answer when the test says so."""

    def __init__(self, **lists: Mapping[str, Listed] | None) -> None:
        self.version = 0
        self.lists = dict(lists)
        self.failed: set[str] = set()

    def listed(self, upstream: str) -> Mapping[str, Listed] | None:
        return self.lists.get(upstream)

    def awaited(self, upstream: str) -> bool:
        return self.lists.get(upstream) is None and upstream not in self.failed

    def answer(self, upstream: str, *names: str) -> None:
        self.lists[upstream] = dict.fromkeys(names, Listed())
        self.version += 1

    def fail(self, upstream: str) -> None:
        self.failed.add(upstream)
        self.version += 1


def upstream(*, discover: bool = False, **models: UpstreamModel) -> Upstream:
    return Upstream(base_url=URL, models={name.replace("__", "/"): model for name, model in models.items()}, discover=discover)


def patterns(models: Mapping[str, str], *, discover: bool = False) -> Upstream:
    return Upstream(base_url=URL, models={key: UpstreamModel(name=name) for key, name in models.items()}, discover=discover)


def offers(lists: Lists | None = None, **parts: dict) -> Offers:
    config = Config(**parts)
    return Offers(config, Catalog(config), lists or Lists())


def remote(found: Destination) -> tuple[str, str, str]:
    """Upstream, the name there, and the label."""
    assert isinstance(found.only, UpstreamTarget)
    return found.only.upstream, found.only.remote_name, found.only.label


# ---------------------------------------------------------------- precedence


def test_a_local_model_is_found_with_its_price_and_mode() -> None:
    names = offers(models={"a": LOCAL, "a:b": LOCAL}, aliases={"poet": "a:rhyme"})
    assert names.find("a").only == LocalTarget(model_id="a", price=LOCAL.price)
    assert names.find("a:rhyme").only == LocalTarget(model_id="a", mode="rhyme", price=LOCAL.price)
    assert names.find("a:b").only == LocalTarget(model_id="a:b", price=LOCAL.price)
    assert names.find("poet") == Destination(public_name="poet", choices=names.find("a:rhyme").choices)
    assert names.find("poet:prose").only == LocalTarget(model_id="a", mode="prose", price=LOCAL.price)


def test_the_more_exact_meaning_of_a_name_wins() -> None:
    explicit = upstream(**{"a": NO_FIELDS, "r": NO_FIELDS, "e": NO_FIELDS, "a:mode": NO_FIELDS})
    names = offers(
        models={"a": LOCAL},
        upstreams={"up": explicit, "rest": patterns({"*": ""})},
        routes={"a": Route(targets=("e",)), "r": Route(targets=("a",))},
        aliases={"r": "e", "e": "a", "x": "r", "y": "anything"},
    )
    assert names.find("a").only == LocalTarget(model_id="a", price=LOCAL.price)
    assert names.find("r").route == "r"
    assert remote(names.find("e")) == ("up", "e", "e")
    assert remote(names.find("a:mode")) == ("up", "a:mode", "a:mode")
    assert names.find("a:other").only == LocalTarget(model_id="a", mode="other", price=LOCAL.price)
    assert (names.find("x").route, names.find("x").public_name) == ("r", "x")
    assert remote(names.find("y")) == ("rest", "anything", "*")


def test_of_two_upstreams_with_the_same_name_the_first_has_it() -> None:
    names = offers(upstreams={"one": upstream(m=UpstreamModel(name="m1")), "two": upstream(m=UpstreamModel(name="m2"))})
    assert remote(names.find("m")) == ("one", "m1", "m")


# ---------------------------------------------------------------- patterns


@pytest.mark.parametrize(
    ("pattern", "name", "asked", "called"),
    [
        ("*", "", "a/b:c", "a/b:c"),
        ("openai/*", "*", "openai/gpt-4o", "gpt-4o"),
        ("openai/*", "", "openai/gpt-4o", "openai/gpt-4o"),
        ("*-fast", "fast/*", "llama-fast", "fast/llama"),
        ("my-*-x", "*", "my-a*b-x", "a*b"),
        ("any-*", "one", "any-thing", "one"),
        ("*", "", "*", "*"),
    ],
)
def test_a_star_stands_for_what_the_client_wrote(pattern, name, asked, called) -> None:
    names = offers(upstreams={"up": patterns({pattern: name})})
    assert remote(names.find(asked)) == ("up", called, pattern)


@pytest.mark.parametrize("asked", ["openai/", "openai", "Openai/x", "x/openai/y", "", "openai/a\nb", "openai/" + "x" * 250])
def test_what_does_not_fit_a_pattern_is_no_model(asked) -> None:
    with pytest.raises(ModelNotFound) as caught:
        offers(upstreams={"up": patterns({"openai/*": "*"})}).find(asked)
    assert caught.value.param == "model"
    assert len(caught.value.message) < 400


def test_an_overlap_of_prefix_and_suffix_is_not_counted_twice() -> None:
    with pytest.raises(ModelNotFound):
        offers(upstreams={"up": patterns({"aba*aba": ""})}).find("ababa")


def test_upstreams_are_tried_in_their_order_and_so_are_their_patterns() -> None:
    names = offers(upstreams={"one": patterns({"a-*": "1-*", "a-b-*": "2-*"}), "two": patterns({"*": ""})})
    assert remote(names.find("a-b-c")) == ("one", "1-b-c", "a-*")
    assert remote(names.find("c")) == ("two", "c", "*")


def test_an_upstream_without_models_takes_every_name() -> None:
    names = offers(models={"a": LOCAL}, upstreams={"up": Upstream(base_url=URL)})
    assert remote(names.find("gpt-5")) == ("up", "gpt-5", "*")
    assert isinstance(names.find("a").only, LocalTarget)
    assert names.names() == ("a",)


def test_names_that_clients_make_up_are_not_kept_for_ever() -> None:
    names = offers(upstreams={"up": Upstream(base_url=URL)})
    for number in range(REMEMBERED + 100):
        names.find(f"m{number}")
    assert names._remembered.cache_info().currsize == REMEMBERED


# ---------------------------------------------------------------- what upstreams list


def test_with_discovery_only_what_is_listed_is_offered() -> None:
    lists = Lists()
    names = offers(lists, upstreams={"up": patterns({"fast": "small", "up/*": "*"}, discover=True)})
    lists.answer("up", "gpt", "org/m")
    assert remote(names.find("up/gpt")) == ("up", "gpt", "up/gpt")
    assert names.names() == ("fast", "up/gpt", "up/org/m")
    with pytest.raises(ModelNotFound, match="Did you mean: up/gpt"):
        names.find("up/gpt2")
    assert remote(names.find("fast")) == ("up", "small", "fast")


def test_a_mode_goes_with_a_listed_model_that_has_some() -> None:
    lists = Lists(up={"m": Listed(modes=("creative",)), "tagged:8b": Listed(), "plain": Listed()})
    names = offers(lists, upstreams={"up": patterns({"up/*": "*"}, discover=True)})
    assert remote(names.find("up/m:creative")) == ("up", "m:creative", "up/m")
    assert remote(names.find("up/tagged:8b")) == ("up", "tagged:8b", "up/tagged:8b")
    for name in ("up/plain:creative", "up/m:", "up/:creative", "up/tagged:9b"):
        with pytest.raises(ModelNotFound):
            names.find(name)


def test_a_list_that_changes_changes_what_a_name_stands_for() -> None:
    lists = Lists(one={"a": Listed()}, two={"a": Listed(), "b": Listed()})
    names = offers(lists, upstreams={"one": patterns({}, discover=True), "two": patterns({}, discover=True)})
    assert remote(names.find("a"))[0] == "one"
    assert names.names() == ("a", "b")
    lists.answer("one", "c")
    assert remote(names.find("a"))[0] == "two"
    assert names.names() == ("c", "a", "b")


def test_while_the_first_answer_is_awaited_a_client_is_told_to_come_again() -> None:
    lists = Lists()
    names = offers(lists, upstreams={"one": patterns({"x-*": ""}, discover=True), "two": patterns({"*": ""})})
    with pytest.raises(Unavailable) as caught:
        names.find("x-1")
    assert caught.value.retry_after
    assert remote(names.find("y"))[0] == "two"
    lists.answer("one")
    assert remote(names.find("x-1"))[0] == "two"


def test_an_upstream_that_never_answered_does_not_keep_others_from_answering_and_does_not_deny_its_models() -> None:
    lists = Lists()
    lists.fail("one")
    names = offers(lists, upstreams={"one": patterns({"*": ""}, discover=True), "two": patterns({"y-*": ""})})
    assert remote(names.find("y-1"))[0] == "two"
    with pytest.raises(Unavailable):
        names.find("z")


# ---------------------------------------------------------------- routes


def test_a_route_has_its_targets_with_their_weights_and_a_larger_one() -> None:
    route = Route(targets=("a", RouteTarget(model="e", weight=3.0), "alias", "p-1"), larger_context="a:long")
    names = offers(
        models={"a": LOCAL},
        upstreams={"up": Upstream(base_url=URL, models={"e": NO_FIELDS, "f": NO_FIELDS, "p-*": NO_FIELDS})},
        routes={"r": route},
        aliases={"alias": "f"},
    )
    found = names.find("r")
    assert [(choice.target.label, choice.weight) for choice in found.choices] == [("a", 1), ("e", 3), ("f", 1), ("p-*", 1)]
    assert (found.route, found.only, found.larger) == ("r", None, LocalTarget(model_id="a", mode="long", price=LOCAL.price))


def test_a_route_does_without_targets_that_are_not_known_yet() -> None:
    lists = Lists()
    names = offers(
        lists,
        upstreams={"up": patterns({"x-*": ""}, discover=True), "other": upstream(e=NO_FIELDS)},
        routes={"r": Route(targets=("x-1", "e")), "alone": Route(targets=("x-1",))},
    )
    assert [choice.target.label for choice in names.find("r").choices] == ["e"]
    with pytest.raises(Unavailable):
        names.find("alone")
    lists.answer("up", "x-1")
    assert [choice.target.label for choice in names.find("r").choices] == ["x-1", "e"]
    assert [choice.target.label for choice in names.find("alone").choices] == ["x-1"]


# ---------------------------------------------------------------- all names


def test_names_come_in_the_order_of_the_configuration_and_each_once() -> None:
    lists = Lists(up={"gpt": Listed(), "e": Listed(), "a": Listed()})
    names = offers(
        lists,
        models={"b": LOCAL, "a": LOCAL},
        upstreams={"first": upstream(z=NO_FIELDS), "up": Upstream(base_url=URL, models={"*": NO_FIELDS}, discover=True)},
        routes={"r": Route(targets=("a",))},
        aliases={"alias": "z"},
    )
    assert names.names() == ("b", "a", "z", "gpt", "e", "r", "alias")


def test_near_names_are_of_every_kind() -> None:
    names = offers(
        models={"mistral": LOCAL},
        upstreams={"up": upstream(mistrall=NO_FIELDS)},
        routes={"Mistralx": Route(targets=("mistral",))},
    )
    with pytest.raises(ModelNotFound) as caught:
        names.find("mistrali")
    assert {"mistral", "mistrall", "Mistralx"} == set(caught.value.message.partition("mean: ")[2].rstrip("?").split(", "))


def test_the_model_for_a_request_that_names_none_is_one_that_is_known_to_do_it() -> None:
    lists = Lists(found={"speaker": Listed(capabilities=("generate_audio",))})
    names = offers(
        lists,
        upstreams={
            "late": patterns({"q-*": ""}, discover=True),
            "up": upstream(any=NO_FIELDS, writer=UpstreamModel(capabilities=("generate_text",))),
            "found": patterns({"*": ""}, discover=True),
        },
    )
    assert names.able(("generate_video", "generate_text")) == "writer"
    assert names.able(("generate_audio",)) == "speaker"
    assert names.able(("rank_text",)) is None


def test_a_name_that_is_too_long_is_answered_without_being_repeated_whole() -> None:
    with pytest.raises(APIError) as caught:
        offers(upstreams={"up": Upstream(base_url=URL)}).find("x" * 1_000_000)
    assert len(caught.value.message) < 400
