# ruff: noqa: RUF001
import pytest

from handlers.speaking.sentences import LONGEST, split


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("No end", ["No end"]),
        ("", []),
        (" \n\t ", []),
        ("Dr. Smith met Mrs. Jones. They talked.", ["Dr. Smith met Mrs. Jones.", "They talked."]),
        ("J. R. R. Tolkien wrote it. Really.", ["J. R. R. Tolkien wrote it.", "Really."]),
        ("It costs 3.50 dollars. Cheap.", ["It costs 3.50 dollars.", "Cheap."]),
        ("He said, “Stop!” She did.", ["He said, “Stop!”", "She did."]),
        ("Wait... what? Yes.", ["Wait... what?", "Yes."]),
        ("The U.S. Army came. It left.", ["The U.S. Army came.", "It left."]),
        ("He said no. We sat. The sun rose.", ["He said no.", "We sat.", "The sun rose."]),
        ("So did I. We left.", ["So did I.", "We left."]),
        ("A title\n\nA text.", ["A title", "A text."]),
        ("A line\nthat goes on.", ["A line that goes on."]),
        ("Buy:\n- milk\n- bread", ["Buy:", "- milk", "- bread"]),
        ("你好。再见！", ["你好。", "再见！"]),
        ("Visit example.com now. Thanks.", ["Visit example.com now.", "Thanks."]),
    ],
)
def test_a_text_is_cut_after_its_sentences(text, pieces):
    assert list(split(text)) == pieces


def test_a_long_sentence_is_cut_at_its_clauses():
    first, second = "a" * 40 + " and so on,", "which is why " + "b " * 10
    assert list(split(f"{first} {second}", longest=60)) == [first, second.strip()]


def test_what_has_no_clause_is_cut_at_a_space_and_what_has_no_space_anywhere():
    assert list(split("one two three four", longest=10)) == ["one two", "three four"]
    assert list(split("x" * 25, longest=10)) == ["x" * 10, "x" * 10, "x" * 5]


@pytest.mark.parametrize(
    "text", ["word, " * 700, "x" * 4096, "Yes. " * 800, "a b. C d! " * 400, ". . . " * 600, "😀" * 4096, "." * 4096]
)
def test_no_piece_is_too_long_and_nothing_is_lost(text):
    pieces = split(text)
    assert all(0 < len(piece) <= LONGEST for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())
