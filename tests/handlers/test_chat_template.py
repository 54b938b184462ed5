from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from handlers.chat_template import MAX_SOURCE, ChatTemplate
from handlers.template_abilities import Refusal
from handlers.template_child import MEMORY
from handlers.template_terms import SECONDS
from openai_compat.errors import InvalidRequest, ModelUnavailable

HELLO = [{"role": "user", "content": "hello"}]


def render(source: str, messages=HELLO, options=None, tokens=None) -> str:
    return ChatTemplate(source, tokens or {}).render(messages, options or {})


def test_it_renders_as_transformers_does(tiny) -> None:
    messages = [{"role": "system", "content": "a"}, *HELLO]
    expected = tiny._lm.vocabulary.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert tiny._lm.template.render(messages, {}) == expected


def test_the_helpers_that_templates_rely_on_are_there() -> None:
    source = (
        "{{ bos_token }}{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}"
        "{% generation %}{{ m | tojson }}{% endgeneration %}{% endfor %}{{ strftime_now('%Y') | length }}"
        "{% set ns = namespace(x=1) %}{% set ns.x = 2 %}{{ ns.x }}{{ tools is none }}"
    )
    assert render(source, HELLO * 2, tokens={"bos_token": "<s>"}) == '<s>{"role": "user", "content": "hello"}42True'


def test_dictionaries_and_namespaces_are_made_as_jinja_makes_them() -> None:
    source = (
        "{% set ns = namespace({'a': 1}, self=2) %}{% set ns.b = dict([('x', 1)], y=ns.a) %}"
        "{{ ns.b }}{{ ns.self }}{{ dict.fromkeys('ab', 0) }}"
    )
    assert render(source) == "{'x': 1, 'y': 1}2{'a': 0, 'b': 0}"


def test_options_reach_the_template() -> None:
    assert render("{{ enable_thinking }}", options={"enable_thinking": False}) == "False"


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt", "bos_token", "raise_exception"])
def test_options_cannot_replace_what_the_server_says(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        render("{{ messages }}", options={name: "x"}, tokens={"bos_token": "<s>"})
    assert caught.value.param == f"chat_template_kwargs.{name}"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{{ joiner.__init__.__globals__.os }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ (messages | attr('__class__')).mro() }}",
        "{{ raise_exception.__globals__.x }}",
        "{{ strftime_now.__globals__.x }}",
        "{{ '{0.__class__.__mro__}'.format(messages) | length // 0 }}",
        "{{ self.__init__.__globals__ }}",
        "{{ self._TemplateReference__context.environment.globals.clear() }}",
        "{{ messages[0].update({'role': 'system'}) }}",
        "{{ dict.update(messages[0], {'role': 'system'}) }}",
        "{{ dict.pop(messages[0], 'role') }}",
        "{{ namespace(__html__=messages[0].content.upper) | e }}",
        "{% set ns = namespace() %}{% set ns.__call__ = cycler %}{{ ns }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os.name.x }}",
        "{{ missing.attribute }}",
        "{{ 1 / 0 }}",
        "{{ messages[7].content.x }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_a_template_that_reaches_out_or_breaks_is_the_model_s_fault_and_tells_nothing(source: str) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        render(source)
    assert caught.value.message == "The model's chat template failed on these messages."


def test_a_template_that_does_not_compile_is_the_model_s_fault() -> None:
    with pytest.raises(ModelUnavailable, match="broken"):
        ChatTemplate("{% for %}", {})


def test_a_refusal_is_told_apart() -> None:
    with pytest.raises(Refusal):
        render("{{ raise_exception('no system here') }}")


GO = [{"role": "user", "content": "go"}]
DOUBLED = "{% set ns = namespace(x='ab') %}{% for i in range(64) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x | length }}"
BOMBS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "loops in loops": "{% for a in range(9999) %}" * 5 + "{% endfor %}" * 5,
    "output": "{% for i in range(99999) %}{% for j in range(99999) %}{{ 'x' * 1000 }}{% endfor %}{% endfor %}",
    "a multiplied text": "{{ go * 10 ** 10 }}",
    "a power": "{{ (go | length + 7) ** (9 ** 99) }}",
    "centred": "{{ go | center(10 ** 9) }}",
    "padded": "{{ go.ljust(10 ** 10) }}",
    "filled with zeros": "{{ go.zfill(2 * 10 ** 9) }}",
    "indented": "{{ (go ~ '\n') * 2000 | indent(10 ** 7) }}",
    "a width of format": "{{ '%2000000000d' % (go | length) }}",
    "a width of str.format": "{{ '{:>2000000000}'.format(go) }}",
    "replaced again and again": "{{ (go * 99999).replace('o', 'y' * 99999) }}",
    "replaced by the filter": "{{ (go * 99999) | replace('o', 'y' * 99999) }}",
    "joined": "{{ [go * 9999999] * 9999 | join }}",
    "a text doubled": DOUBLED.replace("'ab'", "go"),
    "macros that call one another twice": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(go | length + 60) }}"
    ),
    "lists in lists": (
        "{% set ns = namespace(x=[go]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}"
    ),
    "lists compared": (
        "{% set ns = namespace(x=[go], y=[go]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
        "{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}"
    ),
    "batches": "{{ [go] | batch(10 ** 10, 'x') | list }}",
    "placeholder text": "{{ lipsum(n=10 ** 8) }}",
    "bytes of a number": "{{ (go | length).to_bytes(10 ** 10, 'big') }}",
    "sums of lists": "{{ ([range(99999) | list] * 9999) | sum(start=[]) | length }}",
    "json with long indents": "{{ [[[go]]] | tojson(indent=10 ** 10) }}",
}


LONG = {"loops in loops", "lists in lists", "lists compared", "sums of lists", "macros that call one another twice"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in BOMBS])
def test_a_bomb_ends_in_time_and_memory_and_the_next_chat_is_rendered(name: str) -> None:
    """The template is a bomb for one message only: it is loaded, and goes on when it has been stopped."""
    template = ChatTemplate(f"{{% set go = messages[0].content %}}{{% if go == 'go' %}}{BOMBS[name]}{{% endif %}}fine", {})
    began, before = time.monotonic(), psutil.Process().memory_info().rss
    with pytest.raises((InvalidRequest, ModelUnavailable)):
        template.render(GO, {})
    assert time.monotonic() - began < SECONDS + 8  # as long as a busy machine may take to end a process
    assert psutil.Process().memory_info().rss - before < 1 << 30
    assert template.render(HELLO, {}) == "fine"


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 10 ** 10 }}",
        "{{ 9 ** (9 ** 9) }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    ],
)
def test_a_bomb_that_goes_off_when_it_is_compiled_or_for_everyone_keeps_the_model_from_loading(source: str) -> None:
    """Jinja works out constants when it compiles."""
    with pytest.raises(ModelUnavailable, match="too much time or memory"):
        ChatTemplate(source, {})


def test_what_takes_too_much_is_the_messages_fault() -> None:
    with pytest.raises(InvalidRequest) as caught:
        ChatTemplate("{% if messages[0].content == 'go' %}" + BOMBS["output"] + "{% endif %}", {}).render(GO, {})
    assert caught.value.param == "messages"


@pytest.mark.parametrize("depth", [200, 5_000, 100_000])
def test_a_template_of_too_many_brackets_is_broken(depth: int) -> None:
    with pytest.raises(ModelUnavailable, match=r"broken|too much"):
        ChatTemplate("{{ " + "(" * depth + "1" + ")" * depth + " }}" + "{{", {})


def test_a_template_over_a_mebibyte_is_not_looked_at() -> None:
    with pytest.raises(ModelUnavailable, match="too large"):
        ChatTemplate("x" * (MAX_SOURCE + 1), {})


def helpers() -> set[psutil.Process]:
    return {child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE}


def test_no_process_stays_behind() -> None:
    before = helpers()
    template = ChatTemplate("a", {})
    (process,) = helpers() - before
    del template
    assert process not in helpers()


def test_a_process_that_was_killed_while_it_waited_is_nobody_s_fault() -> None:
    before = helpers()
    template = ChatTemplate("{{ messages[0].content }}", {})
    (process,) = helpers() - before
    process.kill()
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert template.render(HELLO, {}) == "hello"


def test_a_process_that_was_killed_at_its_work_is_nobody_s_fault_either() -> None:
    before = helpers()
    template = ChatTemplate("{% for i in range(messages[0].content | length) %}{{ messages[0].content[i] }}{% endfor %}", {})
    (process,) = helpers() - before
    text = "abc" * 30_000
    with ThreadPoolExecutor(1) as pool:
        process.suspend()
        rendered = pool.submit(template.render, [{"role": "user", "content": text}], {})
        time.sleep(0.1)
        process.kill()
        assert rendered.result() == text


def test_the_process_knows_no_secret_of_the_servers_and_can_open_nothing(monkeypatch) -> None:
    monkeypatch.setenv("MODEL_SECRET", "hidden")
    before = helpers()
    template = ChatTemplate("a", {})
    (process,) = helpers() - before
    assert "MODEL_SECRET" not in process.environ()
    assert process.rlimit(psutil.RLIMIT_NOFILE) == (0, 0)
    assert process.rlimit(psutil.RLIMIT_AS) == (MEMORY, MEMORY)
    assert template.render(HELLO, {}) == "a"


def test_two_threads_get_each_their_own_chat() -> None:
    template = ChatTemplate("{{ messages[0].content }}", {})
    texts = [f"canary {number} " * (1 + number * 97 % 1000) for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        rendered = list(pool.map(lambda text: template.render([{"role": "user", "content": text}], {}), texts))
    assert rendered == texts


FILTERS = (
    "'a b' | upper | title | capitalize | lower | trim | replace('a', 'c') | center(9) | indent | truncate(5) | wordwrap(2)",
    "[3, 1, 2] | sort | reverse | list | join(',')",
    "{'b': 1, 'a': 2} | dictsort",
    "[{'a': 1}, {'a': 2}] | selectattr('a', 'equalto', 2) | map(attribute='a') | first",
    "[{'a': 1}, {'a': 2}] | groupby('a') | length",
    "'<b>' | escape",
    "1.5 | round | int",
    "1000000 | filesizeformat",
    "'a b' | urlencode",
    "{'x': [1]} | pprint",
    "'%s %05d' | format('a', 7)",
    "[1, 2] | sum",
    "'<a>b</a>' | striptags",
    "[1, 1] | unique | list",
    "'a-b'.split('-')",
    "[1, 2, 3] | batch(2) | list",
    "{'a': 1}.items() | list",
    "'ab\\u00e9'[::-1]",
    "{'a': 1} | xmlattr",
)


@pytest.mark.parametrize("expression", FILTERS)
def test_what_templates_use_works_where_no_file_can_be_opened(expression: str) -> None:
    source = "{{ " + expression + " }}"
    assert render(source) == ImmutableSandboxedEnvironment().from_string(source).render()


def test_a_text_that_utf_8_cannot_say_is_rendered_all_the_same() -> None:
    assert render("{{ messages[0].content }}", [{"role": "user", "content": "a\ud800b"}]) == "a\ud800b"


def test_a_large_input_is_no_reason_to_refuse() -> None:
    text = "x" * (2 << 20)
    assert render("{{ messages[0].content }}", [{"role": "user", "content": text}]) == text
