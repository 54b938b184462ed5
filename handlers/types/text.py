"""Chats and completions."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from handlers.types.facts import Usage
from handlers.types.pictures import Picture
from handlers.types.sound import Sound

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]


Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


class TextPart(Struct, frozen=True, kw_only=True, tag="text"):
    text: str


class ImagePart(Struct, frozen=True, kw_only=True, tag="image"):
    """A picture in a message. ``detail``: low, high or auto, for models that can read one more or less closely."""

    picture: Picture
    detail: str = "auto"


class AudioPart(Struct, frozen=True, kw_only=True, tag="audio"):
    """A recording in a message: one channel at the handler's ``audio_rate``."""

    sound: Sound


Part: TypeAlias = TextPart | ImagePart | AudioPart


class ToolCall(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    arguments: str


class Tool(Struct, frozen=True, kw_only=True):
    """A function that the model may call. ``parameters`` is the JSON text of a schema."""

    name: str
    description: str = ""
    parameters: str = '{"type":"object"}'
    strict: bool = False


class ToolChoice(Struct, frozen=True, kw_only=True):
    """``name`` goes with ``named`` alone."""

    mode: Literal["none", "auto", "required", "named"] = "auto"
    name: str | None = None


class Message(Struct, frozen=True, kw_only=True):
    role: Role
    parts: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str | None = None

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


class Sampling(Struct, frozen=True, kw_only=True):
    """Per-request sampling. ``logprobs`` is None for off, else the number of alternatives (0 to 20) beside the chosen token."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[int, float] = {}
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    max_tokens: int | None = None
    min_tokens: int | None = None
    ignore_eos: bool = False
    n: int = 1
    best_of: int | None = None
    logprobs: int | None = None


Prompt: TypeAlias = str | tuple[int, ...]


class GrammarSpec(Struct, frozen=True, kw_only=True):
    """What an answer must look like.

    ``source`` is the text of a JSON schema, a regular expression, a JSON list of choices, a grammar in Lark's syntax or in
    GBNF, or what ``handlers.tool_grammar`` says of tools; it is empty for ``json_object``. ``param`` is the client's field, for
    error messages.
    """

    kind: Literal["json_object", "json_schema", "regex", "choice", "grammar", "tool_calls", "marked_calls", "calls_or"]
    source: str = ""
    param: str = "response_format"


class TextRequest(Struct, frozen=True, kw_only=True):
    """A chat (``messages``) or plain prompts (``prompts``: text or token ids); exactly one of them is given.

    Choices are numbered ``prompt_index * n + sample_index``. ``prompt_param`` is the client's field name, for error messages.

    ``counted``: only the prompt is wanted, however long it is.
    """

    messages: tuple[Message, ...] | None = None
    prompts: tuple[Prompt, ...] | None = None
    sampling: Sampling = Sampling()
    mode: str | None = None
    mode_options: dict[str, str] = {}
    system_prompt: str | None = None
    grammar: GrammarSpec | None = None
    echo: bool = False
    stream: bool = False
    template_options: dict[str, str | int | float | bool | None] = {}
    cache_salt: str = ""
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool = True
    counted: bool = False

    @property
    def prompt_param(self) -> str:
        return "prompt" if self.messages is None else "messages"

    @property
    def offers_tools(self) -> bool:
        """Whether the model may call anything."""
        return bool(self.tools) and (self.tool_choice is None or self.tool_choice.mode != "none")

    @property
    def must_call(self) -> bool:
        """Whether the answer has to be a call."""
        return self.offers_tools and self.tool_choice is not None and self.tool_choice.mode != "auto"


class TopLogprob(Struct, frozen=True, kw_only=True):
    token: str
    logprob: float
    token_bytes: bytes


class TokenLogprob(Struct, frozen=True, kw_only=True):
    """A token of the answer, its natural-log probability, the most likely alternatives, and its offset in the text."""

    token: str
    logprob: float | None
    token_bytes: bytes
    top: tuple[TopLogprob, ...] = ()
    text_offset: int = 0


class ToolCallDelta(Struct, frozen=True, kw_only=True):
    """A piece of a call. The first one of a call has ``id`` and ``name`` and no arguments; the others hold arguments alone."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class TextDelta(Struct, frozen=True, kw_only=True):
    """A piece of one choice: text that is safe to show (no half code point, no beginning of a stop string)."""

    index: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()


class TextChoice(Struct, frozen=True, kw_only=True):
    """``stop`` is the stop string that ended it."""

    index: int
    text: str
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...] | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    stop: str | None = None


class TextResult(Struct, frozen=True, kw_only=True):
    choices: tuple[TextChoice, ...]
    usage: Usage
