"""Token ids of OpenAI's clients, against texts whose ids are known."""

import pytest

from handlers.encoding import cl100k
from handlers.encoding.cl100k import Cl100k
from openai_compat.errors import InvalidRequest

# made with tiktoken 0.14
KNOWN = {
    "That is a happy person": (4897, 374, 264, 6380, 1732),
    "hello world": (15339, 1917),
    "naïve café 😀": (3458, 38672, 588, 53050, 91416),
    "日本語": (9080, 22656, 45918, 252),
}


@pytest.fixture(scope="module")
def table() -> Cl100k:
    return Cl100k()


@pytest.mark.parametrize("text", KNOWN)
def test_ids_become_the_text_they_were_made_of(table, text):
    assert table.decode(KNOWN[text]) == text


def test_half_a_character_becomes_a_replacement(table):
    assert table.decode(KNOWN["日本語"][2:3]).endswith("\ufffd")


@pytest.mark.parametrize("number", [100_256, 100_257, 200_000])
def test_ids_that_are_no_text_are_refused(table, number):
    with pytest.raises(InvalidRequest, match=str(number)):
        table.decode((1, number))


def test_a_table_that_is_not_openai_s_is_not_used():
    with pytest.raises(InvalidRequest, match="send the text instead"):
        Cl100k(b"IQ== 0\n").decode((0,))


def test_without_the_package_ids_are_refused(monkeypatch):
    monkeypatch.setattr(cl100k, "find_spec", lambda name: None)
    with pytest.raises(InvalidRequest, match="send the text instead"):
        Cl100k().decode((0,))
