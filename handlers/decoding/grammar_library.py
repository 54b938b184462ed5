"""The one place that speaks to llguidance, which turns grammars into masks over a vocabulary.

It imports neither torch nor a tokenizer, so that a small process can use it too. Limits bound the memory of one grammar and
the time of one token; only the building itself has none, see ``grammar_trial``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from handlers.decoding.closed_objects import closed

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_ESCAPES = 'nrtbf\\"'
_SPACES = r"[ ]?|\n[ ]{0,32}"
_LIMITS = {
    "step_lexer_fuel": 50_000,
    "step_max_items": 50_000,
    "max_lexer_states": 20_000,
    "max_grammar_size": 200_000,
    "verbose_errors": False,
}
JSON_OPTIONS = {"json_allowed_escapes": _ESCAPES, "whitespace_pattern": _SPACES}
"""A name that is written with ``\\u`` could be two names to the grammar and one to a reader; without a bound on white space
some models write nothing else."""


class Tokens(Struct, frozen=True):
    """A vocabulary: each id's bytes, the control tokens, and those that end an answer."""

    texts: tuple[bytes, ...]
    special: tuple[int, ...]
    ends: tuple[int, ...]


class _Wrapped:
    """What the library asks of a tokenizer; texts are never tokenized here."""

    bos_token_id = None

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens.texts
        self.special_token_ids = tokens.special
        self.eos_token_id = tokens.ends[0]

    def __call__(self, text: str | bytes) -> list[int]:
        return []


def tokenizer(tokens: Tokens) -> LLTokenizer:
    import llguidance

    wrapper = llguidance.TokenizerWrapper(_Wrapped(tokens))
    slices = llguidance.LLTokenizer.json_slices()
    return llguidance.LLTokenizer(wrapper, n_vocab=len(tokens.texts), eos_token=list(tokens.ends), slices=slices)


def compiled(tokenizer: LLTokenizer, grammar: str) -> LLMatcher:
    """Never raises; what is wrong is told by ``problem``. Lets go of the interpreter's lock."""
    from llguidance import LLMatcher, LLParserLimits

    limits = LLParserLimits(**_LIMITS)  # type: ignore[arg-type]
    return LLMatcher(tokenizer, grammar, log_level=0, limits=limits)


def problem(matcher: LLMatcher) -> str:
    """In the library's words; empty if there is none. What the library would leave out of account is a problem too."""
    return matcher.get_error() or next(iter(matcher.get_grammar_warnings()), "")


def of_json_schema(schema: bytes | str) -> str:
    """Raises ``ValueError`` where ``schema`` is no JSON."""
    return of_lark("start: " + json_rule(schema))


def json_rule(schema: bytes | str) -> str:
    """The right side of a rule, for any JSON schema; what it says to the library itself does not count."""
    plain = closed(json.loads(schema))
    whole = plain if isinstance(plain, dict) else {"allOf": [plain]}
    return "%json " + json.dumps({**whole, "x-guidance": JSON_OPTIONS})


def of_regex(regex: str) -> str:
    """Its digits are 0 to 9; letters, ``\\w`` and spaces are Unicode's."""
    from llguidance import regex_to_lark

    return of_lark(f"start: /{regex_to_lark(regex, use_ascii='d')}/")


def of_choices(choices: Iterable[str]) -> str:
    return of_lark("start: " + " | ".join(map(literal, choices)))


def literal(text: str) -> str:
    """A text as Lark writes it."""
    return "/" + "".join(f"\\u{{{ord(letter):X}}}" for letter in text) + "/" if text else '""'


def of_grammar(text: str) -> str:
    """Lark, or the GBNF that llama.cpp reads. Raises ``ValueError`` naming the place where it cannot be read."""
    from llguidance.gbnf_to_lark import any_to_lark

    try:
        return of_lark(any_to_lark(text))
    except Exception as error:
        raise ValueError(str(error)) from error


def of_calls(tools: Sequence[tuple[str, dict[str, Any]]], most: int) -> str:
    """One call of a tool, or a list of up to ``most``; ``tools`` are names with their schemas."""
    rules = [f"call: {' | '.join(f't{number}' for number in range(len(tools)))}"]
    for number, (name, schema) in enumerate(tools):
        head = literal('{"name": ' + json.dumps(name) + ', "arguments": ')
        rules += [f't{number}: {head} a{number} "}}"', f"a{number}: " + json_rule(json.dumps({"type": "object", **schema}))]
    start = f'start: "[" call (", " call){{0,{most - 1}}} "]"' if most > 1 else "start: call"
    return of_lark("\n".join([start, *rules]))


def of_lark(text: str) -> str:
    """Without forcing, a text that is certain may still come in the pieces that the model prefers."""
    from llguidance import LLMatcher

    grammar: str = LLMatcher.grammar_from_lark('%llguidance {"no_forcing": true}\n' + text)
    return grammar


def first_mask(matcher: LLMatcher, size: int) -> str:
    """What is wrong before the first token; a grammar that nothing can satisfy is found here."""
    from ctypes import addressof, c_char

    bits = bytearray(words(size) * 4)
    probe = matcher.deep_copy()
    probe.unsafe_compute_mask_ptr(addressof(c_char.from_buffer(bits)), len(bits))
    error: str = probe.get_error()
    return error


def words(size: int) -> int:
    """32-bit words of a mask over ``size`` tokens."""
    return -(-size // 32)
