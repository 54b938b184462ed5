from __future__ import annotations

import pytest

from handlers.reasoning import STYLES, ReasoningParser, Thought, guess
from handlers.tools.events import Text

THINK = STYLES["think"]
# text, whether the prompt opened the block, the thoughts, the words
RECORDED = {
    "qwen": ("<think>\nIs 2 < 3? Yes.\n\n  So </thin> is <no> end.\n</think>\n\nIt is. <think>x</think>", False),
    "opened by the template": ("Hm,\n 1 < 2 </think>\nYes\n", True),
    "opened twice": ("<think>Hm</think>Yes", True),
    "empty": ("<think>\n\n</think>\n\nYes", False),
    "nothing but thoughts": ("<think>a </think> \n", False),
    "cut off in it": ("  <think>\nwell </thi", False),
    "cut off, opened by the template": (" well\n", True),
    "none": ("  Yes. <think>no block</think>", False),
    "nearly one": ("<thinker> a", False),
    "cut off in the mark": ("<thin", False),
    "nothing": ("", False),
    "white space": (" \n", False),
}
SEEN = {
    "qwen": ("Is 2 < 3? Yes.\n\n  So </thin> is <no> end.", "It is. <think>x</think>"),
    "opened by the template": ("Hm,\n 1 < 2", "Yes\n"),
    "opened twice": ("Hm", "Yes"),
    "empty": ("", "Yes"),
    "nothing but thoughts": ("a", ""),
    "cut off in it": ("well </thi", ""),
    "cut off, opened by the template": ("well", ""),
    "none": ("", "  Yes. <think>no block</think>"),
    "nearly one": ("", "<thinker> a"),
    "cut off in the mark": ("", "<thin"),
    "nothing": ("", ""),
    "white space": ("", " \n"),
}


def read(pieces: list[str], opened: bool) -> tuple[str, str, int]:
    parser = ReasoningParser(THINK, opened=opened)
    said = [piece for text in pieces for piece in parser.feed(text)] + parser.finish()
    kinds = [type(piece) for piece in said]
    assert kinds == sorted(kinds, key=[Thought, Text].index)
    thoughts = "".join(piece.text for piece in said if isinstance(piece, Thought))
    return thoughts, "".join(piece.text for piece in said if isinstance(piece, Text)), parser.spent


@pytest.mark.parametrize("name", RECORDED)
def test_thoughts_and_words_are_told_apart_wherever_the_text_is_cut(name: str) -> None:
    text, opened = RECORDED[name]
    whole = read([text], opened)
    assert whole[:2] == SEEN[name]
    assert [i for i in range(len(text) + 1) if read([text[:i], text[i:]], opened) != whole] == []
    assert read(list(text), opened) == whole


def test_thoughts_are_passed_on_as_they_come() -> None:
    parser = ReasoningParser(THINK)
    assert parser.feed("<thi") == []
    assert parser.feed("nk>\n") == []
    assert parser.feed("One ") == [Thought("One")]
    assert parser.feed("two </th") == [Thought(" two")]
    assert parser.feed("ink>\n\n") == []
    assert parser.feed("three ") == [Text("three ")]
    assert parser.feed("four") == [Text("four")]


def test_the_bytes_of_the_reasoning_are_counted_with_its_marks() -> None:
    assert read(["<think>é</think>\n\nYes"], opened=False)[2] == len("<think>é</think>".encode())
    assert read(["é</think>Yes"], opened=True)[2] == len("é</think>".encode())
    assert read(["Yes <think>"], opened=False)[2] == 0


@pytest.mark.parametrize(
    ("template", "style"),
    [
        ("{{ '<think>\\n' }}{{ content.split('</think>')[-1] }}", "think"),
        ("[THINK]{{ thinking }}[/THINK]", "mistral"),
        ("<|START_THINKING|><|END_THINKING|>", "cohere"),
        ("{{ messages }}", None),
    ],
)
def test_the_marks_are_guessed_from_the_template(template: str, style: str | None) -> None:
    assert guess(template) == style
