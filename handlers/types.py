"""What travels between the wire and a handler: frozen requests, deltas and results, one family a verb.

Nothing here knows HTTP. ``None`` in a request means "the client did not say", so that a mode or the model's own defaults may
fill it. Times are seconds, sizes bytes or pixels, token counts whole tokens.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias

from msgspec import Struct

Verb: TypeAlias = Literal[
    "generate_text",
    "generate_image",
    "generate_audio",
    "generate_video",
    "process_image",
    "process_audio",
    "process_multimodal",
    "embed_text",
    "embed_image",
    "embed_multimodal",
    "rank_text",
]
VERBS: tuple[Verb, ...] = Verb.__args__  # type: ignore[attr-defined]
FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]
Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


# ---------------------------------------------------------------- model facts


class ModelSpec(Struct, frozen=True, kw_only=True):
    """One model as a handler sees it: resolved files and how to load them."""

    id: str
    path: str
    kind: str
    device: str = "auto"
    dtype: str = "auto"
    context_length: int | None = None
    threads: int | None = None
    options: dict[str, Any] = {}


class Analysis(Struct, frozen=True, kw_only=True):
    """What a model's files tell without loading it.

    ``bytes_per_dtype`` maps a dtype name (``float32``, ``bfloat16``, ``int8`` …) to the bytes that the weights take in memory;
    ``load_bytes`` is the estimate for the spec's own dtype with the handler's overhead (activations, caches).
    """

    architecture: str
    parameters: int
    dtype: str
    bytes_per_dtype: dict[str, int]
    load_bytes: int
    context_length: int | None = None
    capabilities: tuple[Verb, ...] = ()
    modes: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    system_dependencies: tuple[str, ...] = ()
    weight_format: str = "safetensors"
    has_chat_template: bool = False
    path: Literal["", "engine", "generate"] = ""  # what serves a text model; ``weights`` is their format there, on a processor
    weights: str = ""


class Mode(Struct, frozen=True, kw_only=True):
    """A named bundle of defaults. Request fields win over it.

    ``template`` holds ``{input}`` (the last user text) and is applied to it; ``variables`` are its other placeholders with
    their defaults, filled from the request's ``mode_options``.
    """

    description: str
    system_prompt: str | None = None
    template: str | None = None
    variables: dict[str, str] = {}
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    requires: Literal["text", "messages", "image", "audio", "any"] = "any"
    output: str = "text"


# ---------------------------------------------------------------- requests


class TextPart(Struct, frozen=True, kw_only=True, tag="text"):
    text: str


class ImagePart(Struct, frozen=True, kw_only=True, tag="image"):
    """An encoded picture (PNG, JPEG, WebP, GIF), already fetched and checked."""

    data: bytes
    detail: str = "auto"


class AudioPart(Struct, frozen=True, kw_only=True, tag="audio"):
    """An encoded recording in any container of the allow-list."""

    data: bytes
    format: str


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

    Choices are numbered ``prompt_index * n + sample_index``. ``max_tokens_param`` and ``prompt_param`` are the client's field
    names, for error messages.
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


class ImageRequest(Struct, frozen=True, kw_only=True):
    """Text to image; ``image`` and ``mask`` (encoded) make it an edit. Sizes in pixels."""

    prompt: str
    negative_prompt: str | None = None
    n: int = 1
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None
    image: bytes | None = None
    mask: bytes | None = None
    mode: str | None = None
    stream: bool = False


class SpeechRequest(Struct, frozen=True, kw_only=True):
    """A text to speak, or a description of music or sound to make.

    ``voice``, ``speed``, ``language`` and ``instructions`` go with ``speak``; ``seconds`` (the length wanted),
    ``negative_prompt``, ``steps`` and ``guidance`` with ``sound``.
    """

    text: str
    task: Literal["speak", "sound"] = "speak"
    voice: str | None = None
    speed: float = 1.0
    language: str | None = None
    instructions: str | None = None
    seconds: float | None = None
    negative_prompt: str | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None
    mode: str | None = None
    stream: bool = False


class VideoRequest(Struct, frozen=True, kw_only=True):
    prompt: str
    seconds: float | None = None
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    mode: str | None = None


class ImageTaskRequest(Struct, frozen=True, kw_only=True):
    """An encoded picture and what to do with it."""

    image: bytes
    task: Literal["classify", "detect", "segment", "depth"]
    labels: tuple[str, ...] = ()
    threshold: float | None = None
    mode: str | None = None


class Sound(Struct, frozen=True, kw_only=True):
    """Decoded sound: 16 bit little-endian integers, ``channels`` interleaved, ``rate`` samples a second of each."""

    pcm: bytes
    rate: int
    channels: int = 1

    @property
    def seconds(self) -> float:
        return len(self.pcm) / (2 * self.rate * self.channels)


class VoiceActivity(Struct, frozen=True, kw_only=True):
    """Leave out what is no speech before it is recognised. ``threshold``: a probability; the rest are milliseconds."""

    threshold: float | None = None
    silence_ms: int | None = None
    padding_ms: int | None = None


class AudioTaskRequest(Struct, frozen=True, kw_only=True):
    """A recording, decoded to one channel at the handler's ``audio_rate``, and what to do with it.

    ``language`` is the one that is spoken, ``languages`` are those that may be; codes as the model knows them. ``keywords`` are
    words to expect. ``top_k`` goes with ``classify``.
    """

    audio: Sound
    task: Literal["transcribe", "translate", "classify"]
    language: str | None = None
    languages: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    prompt: str | None = None
    temperature: float | None = None
    timestamps: tuple[Literal["segment", "word"], ...] = ()
    voice_activity: VoiceActivity | None = None
    top_k: int | None = None
    mode: str | None = None
    stream: bool = False


class EmbedRequest(Struct, frozen=True, kw_only=True):
    """``texts`` or ``images`` (encoded), or both pairwise for a joint embedding.

    ``input_type`` and ``prompt_name`` choose what the model's files say goes before a text; the name wins. ``truncate``: cut
    what is too long instead of refusing it.
    """

    texts: tuple[Prompt, ...] = ()
    images: tuple[bytes, ...] = ()
    dimensions: int | None = None
    input_type: Literal["query", "document"] | None = None
    prompt_name: str | None = None
    truncate: bool | None = None
    mode: str | None = None


class RankRequest(Struct, frozen=True, kw_only=True):
    """How well does each document answer the query? ``truncate``: cut what is too long instead of refusing it."""

    query: str
    documents: tuple[str, ...]
    truncate: bool | None = None
    mode: str | None = None


Request: TypeAlias = (
    TextRequest | ImageRequest | SpeechRequest | VideoRequest | ImageTaskRequest | AudioTaskRequest | EmbedRequest | RankRequest
)

# ---------------------------------------------------------------- answers


class Usage(Struct, frozen=True, kw_only=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


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
    index: int
    text: str
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...] | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()


class TextResult(Struct, frozen=True, kw_only=True):
    choices: tuple[TextChoice, ...]
    usage: Usage


class Media(Struct, frozen=True, kw_only=True):
    """Encoded bytes with their MIME type."""

    data: bytes
    mime: str


class MediaDelta(Struct, frozen=True, kw_only=True):
    """A partial picture, encoded."""

    index: int
    data: bytes


class SoundDelta(Struct, frozen=True, kw_only=True):
    """The next piece of a sound; all pieces of one answer have the same rate and channels."""

    sound: Sound


class SegmentDelta(Struct, frozen=True, kw_only=True):
    """A stretch of speech whose text was emitted before."""

    segment: Segment


class MediaResult(Struct, frozen=True, kw_only=True):
    items: tuple[Media, ...]
    usage: Usage = Usage()


class SoundResult(Struct, frozen=True, kw_only=True):
    """The end of a sound, all of which was emitted before; ``seconds`` is its length."""

    seconds: float
    usage: Usage = Usage()


class Label(Struct, frozen=True, kw_only=True):
    """A finding in a picture or recording; ``box`` is (left, top, right, bottom) in pixels."""

    label: str
    score: float
    box: tuple[float, float, float, float] | None = None
    mask: bytes | None = None


class LabelResult(Struct, frozen=True, kw_only=True):
    labels: tuple[Label, ...]


class Word(Struct, frozen=True, kw_only=True):
    """A recognised word with the white space before it; times in seconds."""

    start: float
    end: float
    text: str


class Segment(Struct, frozen=True, kw_only=True):
    """A stretch of recognised speech; times in seconds.

    ``seek`` is the hundredth of a second at which its window begins; ``tokens`` are the model's, time marks included. The
    numbers that Whisper judges itself by are 0 where a model has none.
    """

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    tokens: tuple[int, ...] = ()
    seek: int = 0
    temperature: float = 0.0
    avg_logprob: float = 0.0
    compression_ratio: float = 0.0
    no_speech_prob: float = 0.0


class TranscriptResult(Struct, frozen=True, kw_only=True):
    """``prompt_tokens`` of the usage are the positions that the recording takes in the model."""

    text: str
    language: str | None = None
    duration: float = 0.0
    segments: tuple[Segment, ...] = ()
    usage: Usage = Usage()


class EmbedResult(Struct, frozen=True, kw_only=True):
    """One vector an input, in input order: its float32 numbers as little-endian bytes, as they go to the wire."""

    vectors: tuple[bytes, ...]
    usage: Usage = Usage()


class RankResult(Struct, frozen=True, kw_only=True):
    """One relevance a document, in input order; the higher the better, from 0 to 1."""

    scores: tuple[float, ...]
    usage: Usage = Usage()


Delta: TypeAlias = TextDelta | SegmentDelta | MediaDelta | SoundDelta
Result: TypeAlias = TextResult | MediaResult | SoundResult | LabelResult | TranscriptResult | EmbedResult | RankResult


class RunContext(Protocol):
    """What a verb may say to the outside while it runs on the model's thread."""

    def emit(self, delta: Delta) -> None:
        """Send a piece of the answer. Raises ``Cancelled`` or ``DeadlineExceeded`` once nobody wants it any more."""

    def check(self) -> None:
        """Raise ``Cancelled`` or ``DeadlineExceeded`` once nobody wants the answer; call it at least once a step."""


class LoadReport(Protocol):
    """Where ``load_model`` tells how far it is."""

    def __call__(self, stage: str, done: int = 0, total: int = 0) -> None:
        """``stage`` in words, ``done`` and ``total`` in bytes (0: not known)."""
