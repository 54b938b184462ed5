"""A model's chat template: rendered in a sandbox and a process of its own, within bounds, and never a client's own template."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from typing import Any

from handlers.helper_process import HelperProcess
from handlers.template_abilities import Refusal, probe
from handlers.template_terms import BROKEN, REFUSED, RENDERED, TOO_MUCH, seconds_for
from openai_compat.errors import InvalidRequest, ModelUnavailable

RESERVED = frozenset({"messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now"})
MAX_SOURCE = 1 << 20
_MODULE = "handlers.template_child"
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LANG", "LC_ALL", "TZ", "SYSTEMROOT")
_HELLO = [{"role": "user", "content": "Hello."}]


class ChatTemplate:
    """One compiled template.

    Args:
        source: Jinja2, as in a tokenizer's files.
        tokens: the special tokens that templates name (``bos_token`` …).

    Attributes:
        abilities: what it does with tools.

    Raises:
        ModelUnavailable: it does not compile, or takes too much for the shortest of chats.
    """

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        self.source = source
        self._tokens = dict(tokens)
        if len(source) > MAX_SOURCE:
            raise ModelUnavailable("The model's chat template is too large.", retry=False)
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        self._process = HelperProcess(_MODULE, source.encode(errors="surrogatepass"), environment)
        self._turn = threading.Lock()
        self._check()
        self.abilities = probe(self.render)

    def render(
        self, messages: list[dict[str, Any]], options: Mapping[str, Any], tools: list[dict[str, Any]] | None = None
    ) -> str:
        """The prompt for ``messages``, with the definitions of ``tools``.

        Raises:
            Refusal: the template refuses this order of roles, or this role.
            InvalidRequest: an option has a reserved name, or the template takes over 2 seconds (more for megabytes), over
                1 GiB, or makes more than 4 times the input and 1 MiB.
            ModelUnavailable: the template fails in another way.
        """
        for name in options.keys() & (RESERVED | self._tokens.keys()):
            raise InvalidRequest(f"'{name}' cannot be set.", param=f"chat_template_kwargs.{name}")
        answer = self._ask(messages, options, tools)
        if answer[:1] == RENDERED:
            return answer[1:].decode(errors="surrogatepass")
        if answer == REFUSED:
            raise Refusal
        if answer == TOO_MUCH:
            raise InvalidRequest("The model's chat template makes too much of these messages.", param="messages")
        raise ModelUnavailable("The model's chat template failed on these messages.", retry=False)

    def _ask(self, messages: list[dict[str, Any]], options: Mapping[str, Any], tools: list[dict[str, Any]] | None) -> bytes:
        asked = json.dumps([messages, tools or None, {**self._tokens, **options}], ensure_ascii=False)
        question = asked.encode(errors="surrogatepass")
        with self._turn:
            return self._process.ask(question, seconds_for(question)) or TOO_MUCH

    def _check(self) -> None:
        answer = self._ask(_HELLO, {}, None)
        if answer == BROKEN:
            raise ModelUnavailable("The model's chat template is broken.", retry=False)
        if answer == TOO_MUCH:
            raise ModelUnavailable("The model's chat template takes too much time or memory.", retry=False)
