"""What a chat template does with pictures and sounds is found out, and it gets what it can use."""

from __future__ import annotations

import pytest

from handlers.mixing.media import mark
from handlers.mixing.template import MediaTemplate

BOTH = (
    "{% for m in messages %}[{{ m['role'] }}]{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for p in m['content'] %}{{ '<image>' if p['type'] == 'image' else p['text'] }}{% endfor %}{% endif %}{% endfor %}"
)
PARTS_ONLY = (
    "{% for m in messages %}[{{ m['role'] }}]"
    "{% for p in m['content'] | selectattr('type', 'equalto', 'image') %}<image>\n{% endfor %}"
    "{% for p in m['content'] | selectattr('type', 'equalto', 'text') %}{{ p['text'] }}{% endfor %}{% endfor %}"
)
TEXT_ONLY = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"


def shown(source: str, content: str) -> str:
    return MediaTemplate(source, {}).render([{"role": "user", "content": content}], {})


@pytest.mark.parametrize(
    ("source", "wants_parts", "places"),
    [(BOTH, False, {"image"}), (PARTS_ONLY, True, {"image"}), (TEXT_ONLY, False, set())],
    ids=["both", "parts", "text"],
)
def test_its_abilities_are_found_by_rendering(source: str, wants_parts: bool, places: set[str]) -> None:
    template = MediaTemplate(source, {})
    assert template.wants_parts == wants_parts
    assert template.places == places


def test_a_picture_stands_where_it_stood_or_where_the_template_puts_it() -> None:
    content = f"before {mark('image')} after"
    assert shown(BOTH, content) == "[user]before <image> after"
    assert shown(PARTS_ONLY, content) == "[user]<image>\nbefore  after"


def test_a_template_of_texts_leaves_the_mark_for_later() -> None:
    assert shown(TEXT_ONLY, f"see {mark('image')}") == f"[user]see {mark('image')}"


def test_a_medium_that_the_template_does_not_know_keeps_its_mark() -> None:
    assert shown(PARTS_ONLY, f"{mark('audio')}{mark('image')}!") == f"[user]<image>\n{mark('audio')}!"


def test_messages_without_pictures_are_texts_where_they_may_be() -> None:
    assert shown(BOTH, "plain") == "[user]plain"
    assert shown(PARTS_ONLY, "plain") == "[user]plain"


def test_tools_are_looked_for_in_the_form_that_the_template_takes() -> None:
    with_tools = PARTS_ONLY + "{% if tools %}{{ tools | tojson }}{% endif %}"
    assert MediaTemplate(with_tools, {}).abilities.tools
    assert not MediaTemplate(PARTS_ONLY, {}).abilities.tools
