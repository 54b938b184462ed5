"""Messages in a chat template: an answer of the process that renders, whatever stands in them, and never too long."""

from __future__ import annotations

from functools import cache

from jinja2 import Template

from handlers import template_child as child
from handlers.template_terms import BROKEN, FAILED, REFUSED, RENDERED, TOO_MUCH

SOURCE = (
    "{% for m in messages %}{% if m.role not in ['user', 'assistant', 'system', 'tool'] %}"
    "{{ raise_exception('role') }}{% endif %}<|{{ m['role'] }}|>{{ m['content'] | trim }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}"
    "{{ m }}{% endfor %}{{ tools | tojson }}{% if add_generation_prompt %}{{ bos_token }}{% endif %}"
)


@cache
def compiled() -> Template:
    return child._environment().from_string(SOURCE)


def fuzz(data: bytes) -> None:
    """The process gets JSON from us alone; that it gets anything else is the harder case."""
    answer = child._answer(compiled(), child._text(data) if is_text(data) else data.decode("latin-1"))
    assert answer[:1] == RENDERED or answer in (REFUSED, FAILED, TOO_MUCH, BROKEN)
    assert len(answer) <= 4 * (child.GROWTH * 2 * len(data) + child.SLACK) + 1


def is_text(data: bytes) -> bool:
    try:
        child._text(data)
    except UnicodeDecodeError:
        return False
    return True
