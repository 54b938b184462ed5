import pytest

from handlers.speaking.voices import OPENAI_VOICES, Voices
from openai_compat.errors import InvalidRequest, ModelUnavailable


def test_openai_s_names_stand_for_the_model_s_own_voices_in_order_over_and_over() -> None:
    voices = Voices(("a", "b"), {})
    assert [voices.find(name) for name in OPENAI_VOICES] == ["a", "b"] * 6 + ["a"]
    assert voices.find(None) == "a"
    assert voices.find("b") == "b"


def test_a_model_s_own_name_wins_over_openai_s() -> None:
    assert Voices(("x", "alloy"), {}).find("alloy") == "alloy"


def test_the_operator_s_names_win_over_openai_s_and_may_be_new() -> None:
    voices = Voices(("a", "b"), {"alloy": "b", "boss": "b"}, default="boss")
    assert [voices.find(name) for name in ("alloy", "boss", None, "ash")] == ["b", "b", "b", "b"]


def test_every_name_is_listed_once_the_model_s_own_first() -> None:
    names = Voices(("echo", "b"), {"boss": "b"}).names
    assert names[:2] == ("echo", "b")
    assert sorted(names) == sorted({*OPENAI_VOICES, "b", "boss"})


def test_an_unknown_name_is_refused_with_those_that_there_are_and_not_with_hundreds() -> None:
    with pytest.raises(InvalidRequest, match=r"a, alloy, .*cedar") as caught:
        Voices(("a",), {}).find("A")
    assert caught.value.param == "voice"
    with pytest.raises(InvalidRequest) as caught:
        Voices(tuple(f"speaker {i}" for i in range(900)), {}).find("nobody")
    assert len(caught.value.message) < 700


@pytest.mark.parametrize(("told", "default"), [({"alloy": "c"}, None), ({}, "c")])
def test_names_of_voices_that_do_not_exist_are_the_operator_s_mistake(told: dict[str, str], default: str | None) -> None:
    with pytest.raises(ModelUnavailable):
        Voices(("a", "b"), told, default)
