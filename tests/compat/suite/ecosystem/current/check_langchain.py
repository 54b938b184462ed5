"""LangChain's own standard tests, as each of its integrations runs them: `ChatOpenAI` by both APIs, `OpenAIEmbeddings`.

Each test that is skipped says why in the table. Two need more than a subclass: a model of 135 million parameters cannot be
trusted to *decide* for a tool, so the agent's loop tells it to call one; and the picture that LangChain fetches from the web is
made here, so that a machine without the internet can run the suite.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests

from kit.checks import checks
from kit.server import SECONDS, Server

check = checks("langchain")
TOLD_TO_CALL = {"model_kwargs": {"tool_choice": "required"}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Chats(ChatModelIntegrationTests):
    """What the classes below have in common. Not collected: its name begins with neither Check nor Test."""

    server: Server
    responses = False

    @pytest.fixture(autouse=True)
    def _served(self, server: Server) -> None:
        self.server = server

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": self.server.model,
            "base_url": self.server.base_url,
            "api_key": self.server.api_key,
            "use_responses_api": self.responses,
            "timeout": SECONDS,
            "max_retries": 0,
            "stream_usage": True,
        }

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return self.server.model
