"""What a grammar costs: a token with one beside a token without, in the same run, and what preparing one takes.

    python benchmarks/grammar_cost.py [MODEL_FOLDER] [--tokens 64] [--rounds 5]

Held and free requests take turns; the median of the rounds is printed. Held requests write lists that never end, so that both
write equally many tokens; their grammar is cached by then. Without a folder the default model is taken.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from support.serving import pulled

from handlers import types as t
from handlers.decoding.grammar import Grammars
from handlers.decoding.grammar_library import words
from handlers.transformer import TransformerHandler
from handlers.types import GrammarSpec

STREAMS = (1, 8, 32)
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{2,8}$"}},
        "kind": {"enum": ["friend", "foe"]},
    },
    "required": ["name", "age", "tags", "kind"],
    "additionalProperties": False,
}
ENDLESS = {"type": "array", "items": PERSON, "minItems": 1000}
SCHEMAS = {
    "any object": {"type": "object"},
    "four fields": PERSON,
    "recursive": {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}}},
    "enum of 500": {"enum": [f"value number {i}" for i in range(500)]},
    "100 fields": {
        "type": "object",
        "properties": {f"field_{i}": {"type": ["string", "null"]} for i in range(100)},
        "required": [f"field_{i}" for i in range(100)],
    },
}


class Silent:
    """Nobody listens."""

    def emit(self, delta: t.Delta) -> None: ...

    def check(self) -> None: ...

    def spend(self, usage: t.Usage) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    folder = options.folder or pulled("smollm2-135m-instruct")
    handler = TransformerHandler(t.ModelSpec(id="model", path=folder, kind="transformer", device="cpu"))
    handler.load_model(lambda stage, done=0, total=0: None)
    grammars = Grammars(handler._lm.vocabulary, vocab_size=handler._lm.vocab_size, ends=handler._lm.defaults.eos_ids)
    show_preparing(grammars)
    show_parts(grammars, handler._lm.vocab_size)
    for streams in STREAMS:
        show_steps(handler, streams, options.tokens, options.rounds)


def spec(schema: object) -> GrammarSpec:
    return GrammarSpec(kind="json_schema", source=json.dumps(schema))


def milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def show_preparing(grammars: Grammars) -> None:
    first = milliseconds(lambda: grammars.compile(spec({"type": "integer"})).matcher())
    print(f"the first grammar of a model, with its vocabulary and the process that tries grammars: {first:.0f} ms")
    for name, schema in SCHEMAS.items():
        new = milliseconds(lambda schema=schema: grammars.compile(spec(schema)).matcher())
        again = milliseconds(lambda schema=schema: grammars.compile(spec(schema)).matcher())
        print(f"{name:14} new {new:6.1f} ms   cached {again:6.3f} ms")


def show_parts(grammars: Grammars, size: int) -> None:
    """Time of each mask and of each token taken, along one answer."""
    text = json.dumps([{"name": "Ada Lovelace", "age": 36, "tags": ["maths", "poetry"], "kind": "friend"}] * 8)
    ids = grammars._vocabulary.tokenizer.encode(text)
    row = torch.zeros(words(size), dtype=torch.int32)
    matcher = grammars.compile(spec(ENDLESS | {"minItems": 8})).matcher()
    masks, taken = [], []
    for token in ids:
        masks.append(1e3 * milliseconds(lambda: matcher.fill_mask(row)))
        taken.append(1e3 * milliseconds(lambda token=token: matcher.accept(token)))
    print(f"a mask over {size} tokens: median {statistics.median(masks):.0f} µs, longest {max(masks):.0f} µs")
    print(f"taking a token: median {statistics.median(taken):.1f} µs, longest {max(taken):.0f} µs")


def show_steps(handler: TransformerHandler, streams: int, tokens: int, rounds: int) -> None:
    free, held = [], []
    seconds(handler, streams, 8, spec(ENDLESS))
    for _ in range(rounds):
        free.append(seconds(handler, streams, tokens, None))
        held.append(seconds(handler, streams, tokens, spec(ENDLESS)))
    a, b = statistics.median(free), statistics.median(held)
    extra = (b - a) / tokens / streams * 1e6
    print(
        f"{streams:2} streams: {streams * tokens / a:6.1f} tokens/s free, {streams * tokens / b:6.1f} held ({a / b:.2f});"
        f" a step {a / tokens * 1e3:.1f} and {b / tokens * 1e3:.1f} ms; {extra:+.0f} µs a token"
    )


def seconds(handler: TransformerHandler, streams: int, tokens: int, grammar: GrammarSpec | None) -> float:
    sampling = t.Sampling(temperature=0.7, seed=1, max_tokens=tokens, ignore_eos=True)
    message = t.Message(role="user", parts=(t.TextPart(text="List some people as JSON."),))
    request = t.TextRequest(messages=(message,), grammar=grammar, sampling=sampling)
    start = time.perf_counter()
    waiting = [handler.generate_text(request, Silent()) for _ in range(streams)]
    results = [one.poll() for one in waiting]
    while None in results:
        waiting[0].driver.step()
        results = [one.poll() for one in waiting]
    assert {result.usage.completion_tokens for result in results} == {tokens}
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
