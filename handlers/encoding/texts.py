"""Texts and token ids of a request → items for the batcher: prompt, limit and truncation, each text tokenised once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handlers.encoding.batcher import Item
from handlers.encoding.cl100k import Cl100k
from handlers.encoding.layout import Layout
from handlers.encoding.options import EmbeddingOptions
from handlers.encoding.prompts import prompt_for
from handlers.types import EmbedRequest, Prompt, RankRequest, TokenRequest, TokenResult
from openai_compat.errors import InvalidRequest

LANE = "text"
_OVERLAP = 4  # a window shares one part in so many with the one before it


class Tokens:
    """A text as a model reads it; ``skipped`` tokens at its front are a prompt that is not pooled."""

    __slots__ = ("ids", "skipped", "types")

    def __init__(self, ids: list[int], types: list[int] | None = None, skipped: int = 0) -> None:
        self.ids = ids
        self.types = types
        self.skipped = skipped


class Tokenizer:
    """The model's tokenizer within the model's limit, in tokens; what is longer is cut or refused."""

    def __init__(self, tokenizer: Any, *, limit: int, truncate: bool, append: int | None = None) -> None:
        self.limit = limit
        self._tokenizer = tokenizer
        self._truncate = truncate
        self._append = [] if append is None else [append]
        self.vocab_size = len(tokenizer)

    def encode(self, texts: Sequence[str], truncate: bool | None, param: str) -> list[list[int]]:
        """Raises ``InvalidRequest`` naming ``param`` for a text that is too long or has no token."""
        cut = self._truncate if truncate is None else truncate
        found = self._call(list(texts), None, cut)["input_ids"]
        return self.check([ids + self._append for ids in found], cut=False, param=param)

    def encode_pairs(self, query: str, texts: Sequence[str], truncate: bool | None, param: str) -> list[Tokens]:
        cut = self._truncate if truncate is None else truncate
        found = self._call([query] * len(texts), list(texts), cut)
        ids = self.check(found["input_ids"], cut=False, param=param)
        types = found.get("token_type_ids") or [None] * len(ids)
        return [Tokens(own, kinds) for own, kinds in zip(ids, types, strict=True)]

    def prompt_length(self, prompt: str) -> int:
        """Tokens at the front of a text that are its prompt, with what the tokenizer itself puts before it."""
        (ids,) = self._call([prompt], None, cut=True)["input_ids"]
        return len(ids) - 1 if ids and ids[-1] in self._tokenizer.all_special_ids else len(ids)

    def check(self, found: list[list[int]], *, cut: bool, param: str) -> list[list[int]]:
        """Ids within the limit: cut there, or refused."""
        for i, ids in enumerate(found):
            if not ids:
                raise InvalidRequest(f"Item {i} of '{param}' has nothing that this model reads.", param=param)
            if len(ids) > self.limit and not cut:
                raise _too_long(i, len(ids), self.limit, param)
        return [ids[: self.limit] for ids in found]

    def window_items(self, text: str) -> list[Item]:
        """The text in pieces that the model can read, each with what belongs around a text; neighbours overlap."""
        if not self._tokenizer.is_fast:
            raise InvalidRequest("This model's tokenizer cannot cut long texts into windows.", param="input")
        around = self._tokenizer.num_special_tokens_to_add()
        found = self._tokenizer(
            text,
            truncation=True,
            max_length=self.limit,
            stride=max(0, self.limit - around) // _OVERLAP,
            return_overflowing_tokens=True,
            return_attention_mask=False,
            verbose=False,
        )
        types = found.get("token_type_ids") or [None] * len(found["input_ids"])
        return [_item(Tokens(ids, kinds)) for ids, kinds in zip(found["input_ids"], types, strict=True)]

    def plain(self, text: str, *, start: bool) -> list[int]:
        """The ids of a text of any length; ``start``: with what goes before and behind one."""
        found = self._tokenizer(text, add_special_tokens=start, return_attention_mask=False, verbose=False)
        return list(found["input_ids"]) + (self._append if start else [])

    def told(self, ids: tuple[int, ...], request: TokenRequest) -> TokenResult:
        """What is said of ids, from wherever they come."""
        spelled = self._tokenizer.convert_ids_to_tokens(list(ids)) if request.spelled else None
        return TokenResult(
            ids=ids,
            text=self._tokenizer.decode(list(ids)) if request.text is None else request.text,
            pieces=None if spelled is None else tuple(piece or "" for piece in spelled),
            context_length=self.limit,
        )

    def check_ids(self, ids: Sequence[int], param: str) -> None:
        """Raises ``InvalidRequest`` naming the first place that holds no token."""
        for i, number in enumerate(ids):
            if not 0 <= number < self.vocab_size:
                message = f"There is no token {number}; this model's ids are 0 to {self.vocab_size - 1}."
                raise InvalidRequest(message, param=f"{param}[{i}]")

    def _call(self, texts: list[str], pairs: list[str] | None, cut: bool) -> Any:
        return self._tokenizer(
            texts,
            pairs,
            truncation=cut,
            max_length=self.limit - len(self._append) if cut else None,
            return_attention_mask=False,
            verbose=False,
        )


class TextReader:
    """What an embedding model does to its texts before it runs."""

    def __init__(self, tokenizer: Tokenizer, layout: Layout, options: EmbeddingOptions) -> None:
        self._tokenizer = tokenizer
        self._layout = layout
        self._reads_ids = options.token_ids
        self._truncate = options.truncate
        self._cl100k: Cl100k | None = None

    def items(self, request: EmbedRequest) -> list[Item]:
        if self._reads_ids == "native" and request.texts and not isinstance(request.texts[0], str):
            return [_item(Tokens(ids)) for ids in self._native(request)]
        prompt = prompt_for(request, self._layout)
        texts = [self._whole(prompt, self._text(text)) for text in request.texts]
        skipped = 0 if self._layout.include_prompt or not prompt else self._tokenizer.prompt_length(prompt)
        found = self._tokenizer.encode(texts, request.truncate, "input")
        return [_item(Tokens(ids, skipped=min(skipped, len(ids) - 1))) for ids in found]

    def _whole(self, prompt: str, text: str) -> str:
        whole = prompt + text
        if self._layout.strip:
            whole = whole.strip()
        return whole.lower() if self._layout.lower_case else whole

    def _text(self, text: Prompt) -> str:
        if isinstance(text, str):
            return text
        if self._reads_ids != "decode_cl100k":
            raise InvalidRequest("This model takes no token ids; send the text instead.", param="input")
        if self._cl100k is None:
            self._cl100k = Cl100k()
        return self._cl100k.decode(text)

    def _native(self, request: EmbedRequest) -> list[list[int]]:
        """The model's own ids, as they are: nothing is put before or behind them."""
        found = [list(ids) for ids in request.texts if not isinstance(ids, str)]
        size = self._tokenizer.vocab_size
        wrong = next((number for ids in found for number in ids if not 0 <= number < size), None)
        if wrong is not None:
            raise InvalidRequest(f"There is no token {wrong}; this model's ids are 0 to {size - 1}.", param="input")
        return self._tokenizer.check(found, cut=self._truncate if request.truncate is None else request.truncate, param="input")


def pair_items(tokenizer: Tokenizer, request: RankRequest) -> list[Item]:
    return [_item(tokens) for tokens in tokenizer.encode_pairs(request.query, request.documents, request.truncate, "documents")]


def _item(tokens: Tokens) -> Item:
    return Item(lane=LANE, length=len(tokens.ids), inputs=tokens, tokens=len(tokens.ids))


def _too_long(index: int, tokens: int, limit: int, param: str) -> InvalidRequest:
    message = (
        f"This model's maximum context length is {limit} tokens, but item {index} of '{param}' has {tokens}. "
        "Please shorten it, or set 'truncate' to true to have it cut."
    )
    return InvalidRequest(message, param=param, code="context_length_exceeded")
