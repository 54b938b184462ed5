"""Answers that keep to a grammar: built beside the model's thread, kept, and followed token by token."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import TYPE_CHECKING

from handlers.decoding import grammar_library as library
from handlers.decoding.grammar_cache import ByteCache
from handlers.decoding.grammar_trial import Trial
from handlers.decoding.grammar_words import explained, grammar_of
from handlers.decoding.vocabulary import Vocabulary
from handlers.types import GrammarSpec
from openai_compat.errors import APIError, InvalidRequest, RateLimited

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from torch import Tensor

CACHE_BYTES = 64 << 20
MAX_WAITING = 32
_LEAST_BYTES = 1 << 20
"""What a grammar comes to take, with the states it finds while it is used."""


class Matcher:
    """Where one answer stands in its grammar.

    Attributes:
        finished: nothing may follow.
        error: the grammar cannot be followed any further; nothing of the answer is worth anything then.
    """

    def __init__(self, compiled: Compiled) -> None:
        self.finished = False
        self.error: APIError | None = None
        self._compiled = compiled
        self._state = compiled.matcher.deep_copy()

    def fill_mask(self, row: Tensor) -> bool:
        """Set the bits of the tokens that may follow in ``row`` (int32, 32 tokens each). False: every token may."""
        if self.finished:
            return False
        bits = self._compiled.bits
        self._state.unsafe_compute_mask_ptr(bits.data_ptr(), bits.nbytes)
        if self._state.is_error():
            self._fail()
            return False
        row.copy_(bits[: len(row)])
        return True

    def accept(self, token: int) -> bool:
        """Go on with ``token``; False if it may not follow."""
        if self.finished:
            return False
        taken: bool = self._state.consume_token(token)
        if not taken:
            self._fail()
        self.finished = self.finished or self._state.is_stopped()
        return taken

    def _fail(self) -> None:
        """What led here is shared with later answers, so that it is not kept."""
        self.finished = True
        self.error = explained(self._state.get_error(), self._compiled.spec)
        self._compiled.forget()


class Compiled:
    """A grammar that is ready for any number of answers. Their states share what they find out about it."""

    def __init__(self, matcher: LLMatcher, bits: Tensor, spec: GrammarSpec, cache: GrammarCache) -> None:
        self.matcher = matcher
        self.bits = bits
        self.spec = spec
        self._cache = cache

    def forget(self) -> None:
        self._cache.drop(_key(self.spec))


GrammarCache = ByteCache[Compiled | InvalidRequest]


class Compilation:
    """A grammar on its way."""

    def __init__(self, future: Future[Compiled], spec: GrammarSpec) -> None:
        self._future = future
        self._spec = spec

    def wait(self, seconds: float) -> bool:
        """Whether it is ready, or has failed, within ``seconds``."""
        try:
            self._future.exception(seconds)
        except NotYet:
            return False
        return True

    def matcher(self) -> Matcher:
        """The state of a new answer; waits. Raises ``InvalidRequest`` naming the client's field."""
        try:
            return Matcher(self._future.result())
        except InvalidRequest as error:
            raise InvalidRequest(error.message, param=self._spec.param, code=error.code) from error


class Grammars:
    """All grammars of one model. Nothing is built before the first one is asked for.

    Args:
        vocab_size: length of the model's logits.
        ends: tokens that end an answer, and are allowed where the grammar may end.
        capacity: bytes that finished grammars may take.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        vocab_size: int,
        ends: frozenset[int],
        capacity: int = CACHE_BYTES,
        seconds: float = 2.0,
    ) -> None:
        self._vocabulary = vocabulary
        self._vocab_size = vocab_size
        self._ends = tuple(sorted(end for end in ends if end < vocab_size))
        self._seconds = seconds
        self._cache: GrammarCache = ByteCache(capacity)
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, str], Future[Compiled]] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="grammar")
        self._builder: Builder | None = None

    def compile(self, spec: GrammarSpec) -> Compilation:
        """Begin to build what ``spec`` says, on a thread of its own, unless it is there or on its way.

        Raises ``RateLimited`` where too many wait to be built.
        """
        with self._lock:
            held = self._cache.get(_key(spec))
            if held is not None:
                return Compilation(_settled(held), spec)
            if _key(spec) not in self._pending:
                if len(self._pending) >= MAX_WAITING:
                    raise RateLimited("Too many new grammars wait to be prepared.", retry_after=self._seconds)
                self._pending[_key(spec)] = self._thread.submit(self._build, spec)
            return Compilation(self._pending[_key(spec)], spec)

    def _build(self, spec: GrammarSpec) -> Compiled:
        try:
            result, size = self._result(spec)
        except BaseException:
            self._settle(spec, None, 0)
            raise
        self._settle(spec, result, size)
        if isinstance(result, InvalidRequest):
            raise result
        return result

    def _result(self, spec: GrammarSpec) -> tuple[Compiled | InvalidRequest, int]:
        if self._builder is None:
            self._builder = Builder(self._tokens(), self._seconds)
        try:
            return self._builder.build(spec, self._cache)
        except InvalidRequest as error:
            return error.with_traceback(None), _LEAST_BYTES + len(spec.source)

    def _settle(self, spec: GrammarSpec, result: Compiled | InvalidRequest | None, size: int) -> None:
        with self._lock:
            del self._pending[_key(spec)]
            if result is not None:
                self._cache.put(_key(spec), result, size)

    def _tokens(self) -> library.Tokens:
        """A model without an end of its own gets one behind its vocabulary, which can never be chosen."""
        texts = tuple(self._vocabulary.token_bytes(number) for number in range(self._vocab_size))
        special = tuple(sorted(number for number in self._vocabulary.special if number < self._vocab_size))
        if self._ends:
            return library.Tokens(texts, special, self._ends)
        return library.Tokens((*texts, b""), special, (self._vocab_size,))


class Builder:
    """Builds grammars for one vocabulary, on one thread."""

    def __init__(self, tokens: library.Tokens, seconds: float) -> None:
        import torch

        self._trial = Trial(tokens, seconds=seconds)
        self._tokenizer: LLTokenizer = library.tokenizer(tokens)
        self._bits = torch.zeros(library.words(len(tokens.texts)), dtype=torch.int32)

    def build(self, spec: GrammarSpec, cache: GrammarCache) -> tuple[Compiled, int]:
        """With its bytes. Raises ``InvalidRequest``."""
        verdict = self._trial.judge(grammar_of(spec), written=spec.kind == "grammar")
        if verdict.problem:
            raise explained(verdict.problem, spec)
        matcher = library.compiled(self._tokenizer, verdict.grammar)
        size = _LEAST_BYTES + len(verdict.grammar) + verdict.size
        return Compiled(matcher, self._bits, spec, cache), size


def _key(spec: GrammarSpec) -> tuple[str, str]:
    return spec.kind, spec.source


def _settled(held: Compiled | InvalidRequest) -> Future[Compiled]:
    future: Future[Compiled] = Future()
    if isinstance(held, InvalidRequest):
        future.set_exception(held)
    else:
        future.set_result(held)
    return future
