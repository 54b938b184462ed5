"""Which model a request goes to when it names none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from openai_compat.config import Config, Model
from openai_compat.errors import NotFound, UnsupportedCapability, UnsupportedMode
from openai_compat.gateway.catalog import Catalog
from openai_compat.gateway.checks import Checks
from openai_compat.grants import Grant


class Ask(Struct, frozen=True):
    model: str | None = None
    mode: str | None = None


@pytest.fixture
def checks(tmp_path: Path, tiny_llama: Path) -> Checks:
    """Three models in this order: one whose files are missing, one of texts, one that can do everything."""
    models = {
        "lost": Model(source=str(tmp_path / "nowhere"), kind="echo"),
        "writer": Model(source=str(tiny_llama)),
        "all": Model(source=str(tmp_path), kind="echo"),
    }
    return Checks(Catalog(Config(models=models, aliases={"every": "all:shout"})))


def chosen(checks: Checks, request: Ask, *verbs: str) -> Any:
    return asyncio.run(checks.target(request, verbs))


def test_a_request_without_a_model_goes_to_the_first_that_can_do_it_and_is_there(checks: Checks) -> None:
    assert chosen(checks, Ask(), "generate_text").model_id == "writer"
    target = chosen(checks, Ask(), "generate_image")
    assert (target.model_id, target.public_name, target.mode) == ("all", "all", None)


def test_any_of_several_verbs_will_do(checks: Checks) -> None:
    assert chosen(checks, Ask(), "generate_image", "generate_text").model_id == "writer"


def test_a_named_model_is_taken_whatever_it_can_do_and_then_refused(checks: Checks) -> None:
    target = chosen(checks, Ask("writer"), "generate_video")
    with pytest.raises(UnsupportedCapability) as caught:
        asyncio.run(checks.admit(target, Ask("writer"), ("generate_video",)))
    assert caught.value.param == "model"


def test_where_no_model_can_do_it_the_missing_name_is_at_fault(tiny_llama: Path) -> None:
    checks = Checks(Catalog(Config(models={"writer": Model(source=str(tiny_llama))})))
    with pytest.raises(NotFound) as caught:
        chosen(checks, Ask(), "generate_video")
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")
    assert "generate video" in caught.value.message


def test_a_mode_is_the_request_s_or_the_name_s(checks: Checks) -> None:
    target = chosen(checks, Ask("every"), "generate_text")
    asyncio.run(checks.admit(target, Ask("every"), ("generate_text",)))
    with pytest.raises(UnsupportedMode):
        asyncio.run(checks.admit(target, Ask("every", mode="whisper"), ("generate_text",)))


def test_an_upstream_s_model_is_chosen_only_where_none_of_this_machine_can_do_it(tiny_llama: Path) -> None:
    class Elsewhere:
        def able(self, verbs: tuple[str, ...], grant: Grant) -> str | None:
            return "far" if grant.may_use("far") and {"generate_text", "generate_audio"} & set(verbs) else None

    checks = Checks(Catalog(Config(models={"writer": Model(source=str(tiny_llama))})), Elsewhere())
    assert chosen(checks, Ask(), "generate_text").public_name == "writer"
    assert chosen(checks, Ask(), "generate_audio").public_name == "far"
    for verb in ("generate_text", "generate_audio"):
        with pytest.raises(NotFound):
            asyncio.run(checks.target(Ask(), (verb,), Grant(models=("other",))))
    with pytest.raises(NotFound):
        chosen(checks, Ask(), "generate_video")
