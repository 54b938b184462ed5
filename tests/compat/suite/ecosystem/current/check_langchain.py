"""LangChain's own standard tests, as each of its integrations runs them: `ChatOpenAI` by both APIs, and `OpenAIEmbeddings`.

None is changed: those that are expected to fail, or are skipped, say why in the table. Three things are done for small models
and for machines without the internet: the agent's loop is told to call a tool, since a small model cannot be trusted to decide
for it; where a text has no bounds it is kept from repeating itself; and the pictures that LangChain fetches are made here.
"""

from __future__ import annotations

import zlib
from typing import Any

import httpx
import pytest
from kit.checks import checks
from kit.server import SECONDS, Server
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests

check = checks("langchain")
ENDLESS = "a small greedy model does not end a text without bounds, and this API has no penalty for repeating"
SEEING = frozenset({"test_image_inputs", "test_image_tool_message", "test_anthropic_inputs"})


class Chats(ChatModelIntegrationTests):
    """What both APIs have in common. Its name begins with neither Check nor Test: it is not collected itself."""

    responses = False
    server: Server
    asked = ""

    @pytest.fixture(autouse=True)
    def _meet(self, server: Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server, self.asked = server, request.function.__name__
        monkeypatch.setattr(httpx, "get", fetched)

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        seeing = self.asked in SEEING and self.server.vision_model
        return {
            "model": seeing or self.server.model,
            "base_url": self.server.base_url,
            "api_key": self.server.api_key,
            "use_responses_api": self.responses,
            "stream_usage": True,
            "max_tokens": 400,
            "timeout": SECONDS,
            "max_retries": 0,
            **self._helped(),
        }

    def _helped(self) -> dict[str, Any]:
        """Greedy; kept from saying the same words over and over in a text that no schema bounds, where the API can."""
        if self.asked == "test_agent_loop":
            return {"temperature": 0, "model_kwargs": {"tool_choice": "required"}}
        unbounded = self.asked.startswith("test_structured_output") and not self.responses
        return {"temperature": 0, **({"frequency_penalty": 0.7} if unbounded else {})}

    @pytest.mark.xfail(
        reason="the keys of free JSON are the model's choice, and a small one chooses others than were asked for"
    )
    def test_json_mode(self, model: BaseChatModel) -> None:
        super().test_json_mode(model)

    @property
    def model_override_value(self) -> str:
        return self.server.model

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_image_inputs(self) -> bool:
        return bool(self.server.vision_model)

    @property
    def supports_image_tool_message(self) -> bool:
        return bool(self.server.vision_model)

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True


@check("langchain.chat", "LangChain's standard tests of a chat model", needs=("chat",))
class CheckChat(Chats):
    """`ChatOpenAI` by chat completions."""


@check("langchain.responses", "LangChain's standard tests of a chat model, by the Responses API", needs=("responses",))
class CheckResponses(Chats):
    """`ChatOpenAI(use_responses_api=True)`."""

    responses = True

    @pytest.mark.xfail(reason=ENDLESS)
    def test_structured_output_optional_param(self, model: BaseChatModel) -> None:
        super().test_structured_output_optional_param(model)

    @pytest.mark.xfail(reason=ENDLESS)
    def test_structured_output_pydantic_2_v1(self, model: BaseChatModel) -> None:
        super().test_structured_output_pydantic_2_v1(model)


class Vectors(EmbeddingsIntegrationTests):
    server: Server
    tokens = True

    @pytest.fixture(autouse=True)
    def _meet(self, server: Server) -> None:
        self.server = server

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {
            "model": self.server.embedding_model,
            "base_url": self.server.base_url,
            "api_key": self.server.api_key,
            "check_embedding_ctx_length": self.tokens,
            "timeout": SECONDS,
            "max_retries": 0,
        }


@check("langchain.embeddings", "LangChain's standard tests of embeddings, as texts", needs=("embeddings", "embedding-model"))
class CheckEmbeddings(Vectors):
    """`OpenAIEmbeddings(check_embedding_ctx_length=False)`, as is advised for other servers than OpenAI's."""

    tokens = False


def fetched(url: str, **options: Any) -> httpx.Response:
    """What LangChain's tests of pictures would fetch."""
    return httpx.Response(200, content=picture(), request=httpx.Request("GET", url))


def picture() -> bytes:
    """A grey one, 32 pixels a side."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    side = (32).to_bytes(4, "big")
    head = chunk(b"IHDR", side + side + b"\x08\x00\x00\x00\x00")
    rows = chunk(b"IDAT", zlib.compress((b"\x00" + b"\x80" * 32) * 32))
    return b"\x89PNG\r\n\x1a\n" + head + rows + chunk(b"IEND", b"")
