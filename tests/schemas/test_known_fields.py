"""Rule 1, first half: every key that a client can know is in the schemas and on the page."""

import json
import re
import typing
from pathlib import Path

import msgspec
import openai
import pytest
from openai.types import chat as sdk
from openai.types import (
    completion_create_params,
    embedding_create_params,
    image_create_variation_params,
    image_edit_params,
    image_generate_params,
    video_create_params,
    video_download_content_params,
    video_list_params,
    video_remix_params,
)
from openai.types.audio import speech_create_params, transcription_create_params, translation_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import ResponseTextConfigParam, input_token_count_params, response_create_params
from openai.types.shared_params import Reasoning

from schemas import messages
from schemas.chat import ChatCompletionRequest
from schemas.common import StreamOptions
from schemas.completions import CompletionRequest
from schemas.embeddings import EmbeddingRequest
from schemas.images import ImageEditRequest, ImageGenerationRequest, ImageVariationRequest
from schemas.messages import ChatMessage
from schemas.rerank import RerankRequest
from schemas.responses import CreateResponseRequest, InputTokensRequest, ReasoningOptions, TextOptions
from schemas.speech import CreateSoundRequest, CreateSpeechRequest
from schemas.transcriptions import TranscriptionRequest, TranslationRequest
from schemas.videos import CreateVideoRequest, RemixVideoRequest, Video, VideoContentQuery, VideoDeleted, VideoListQuery

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "compatibility.md").read_text()
PUBLISHED = json.loads((HERE / "published.json").read_text())["request_keys"]
OUTCOMES = {"Honoured", "Partly", "Refused", "No effect"}
PARTS = (
    messages.TextContent,
    messages.ImageContent,
    messages.AudioContent,
    messages.FileContent,
    messages.RefusalContent,
)


def keys_of(params: type) -> set[str]:
    return set(typing.get_type_hints(params))


def names_of(*structs: type) -> set[str]:
    return {field.encode_name for struct in structs for field in msgspec.structs.fields(struct)}


def documented(heading: str) -> dict[str, str]:
    """Field → outcome, of the tables between a heading and the next one of its rank or above."""
    rank = heading.split(" ")[0]
    section = PAGE.split(f"\n{heading}\n")[1]
    section = re.split(rf"\n#{{1,{len(rank)}}} ", section)[0]
    return dict(re.findall(r"^\| `([a-z_]+)` \| ([A-Za-z ]+?) \|", section, re.MULTILINE))


CHAT = "## `POST /v1/chat/completions`"
LEGACY = "## `POST /v1/completions`"
EMBEDDINGS = "## `POST /v1/embeddings`"
TRANSCRIPTIONS = "## `POST /v1/audio/transcriptions`"
TRANSLATIONS = "## `POST /v1/audio/translations`"
SPEECH = "## `POST /v1/audio/speech`"
GENERATIONS = "## `POST /v1/audio/generations`"
VIDEOS = "## `POST /v1/videos`"
RESPONSES = "## `POST /v1/responses`"
REASONING, TEXT = (f"### `{name}` of a response" for name in ("reasoning", "text"))
PICTURES, EDITS, VARIATIONS = (f"## `POST /v1/images/{name}`" for name in ("generations", "edits", "variations"))
SDK_MESSAGES = [
    sdk.ChatCompletionSystemMessageParam,
    sdk.ChatCompletionDeveloperMessageParam,
    sdk.ChatCompletionUserMessageParam,
    sdk.ChatCompletionAssistantMessageParam,
    sdk.ChatCompletionToolMessageParam,
    sdk.ChatCompletionFunctionMessageParam,
]
SDK_PARTS = [
    sdk.ChatCompletionContentPartTextParam,
    sdk.ChatCompletionContentPartImageParam,
    sdk.ChatCompletionContentPartInputAudioParam,
    sdk.ChatCompletionContentPartRefusalParam,
    sdk.chat_completion_content_part_param.File,
]

KNOWN = {
    "chat, SDK": (
        keys_of(chat_create_params.CompletionCreateParamsNonStreaming)
        | keys_of(chat_create_params.CompletionCreateParamsStreaming),
        names_of(ChatCompletionRequest),
        CHAT,
    ),
    "chat, published": (set(PUBLISHED["CreateChatCompletionRequest"]), names_of(ChatCompletionRequest), CHAT),
    "completions, SDK": (
        keys_of(completion_create_params.CompletionCreateParamsNonStreaming)
        | keys_of(completion_create_params.CompletionCreateParamsStreaming),
        names_of(CompletionRequest),
        LEGACY,
    ),
    "stream options, SDK": (
        keys_of(sdk.ChatCompletionStreamOptionsParam),
        names_of(StreamOptions),
        "### `stream_options`",
    ),
    "stream options, published": (
        set(PUBLISHED["ChatCompletionStreamOptions"]),
        names_of(StreamOptions),
        "### `stream_options`",
    ),
    "messages, SDK": (set().union(*map(keys_of, SDK_MESSAGES)), names_of(ChatMessage), "### Messages"),
    "messages, published": (
        {key for name, keys in PUBLISHED.items() if name.endswith("Message") for key in keys},
        names_of(ChatMessage),
        "### Messages",
    ),
    "parts, SDK": (set().union(*map(keys_of, SDK_PARTS)) - {"type"}, names_of(*PARTS), "### Content parts"),
    "parts, published": (
        {key for name, keys in PUBLISHED.items() if "ContentPart" in name for key in keys} - {"type"},
        names_of(*PARTS),
        "### Content parts",
    ),
    "responses, SDK": (
        keys_of(response_create_params.ResponseCreateParamsNonStreaming)
        | keys_of(response_create_params.ResponseCreateParamsStreaming),
        names_of(CreateResponseRequest),
        RESPONSES,
    ),
    "responses' reasoning, SDK": (keys_of(Reasoning), names_of(ReasoningOptions), REASONING),
    "responses' text, SDK": (keys_of(ResponseTextConfigParam), names_of(TextOptions), TEXT),
    "embeddings, SDK": (
        keys_of(embedding_create_params.EmbeddingCreateParams),
        names_of(EmbeddingRequest),
        EMBEDDINGS,
    ),
    "transcriptions, SDK": (
        keys_of(transcription_create_params.TranscriptionCreateParamsNonStreaming)
        | keys_of(transcription_create_params.TranscriptionCreateParamsStreaming),
        names_of(TranscriptionRequest) | {"file"},
        TRANSCRIPTIONS,
    ),
    "translations, SDK": (
        keys_of(translation_create_params.TranslationCreateParams),
        names_of(TranslationRequest) | {"file"},
        TRANSLATIONS,
    ),
    "videos, SDK": (keys_of(video_create_params.VideoCreateParams), names_of(CreateVideoRequest), VIDEOS),
    "speech, SDK": (keys_of(speech_create_params.SpeechCreateParams), names_of(CreateSpeechRequest), SPEECH),
    "pictures, SDK": (
        keys_of(image_generate_params.ImageGenerateParamsNonStreaming)
        | keys_of(image_generate_params.ImageGenerateParamsStreaming),
        names_of(ImageGenerationRequest),
        PICTURES,
    ),
    "edits, SDK": (
        keys_of(image_edit_params.ImageEditParamsNonStreaming) | keys_of(image_edit_params.ImageEditParamsStreaming),
        names_of(ImageEditRequest),
        EDITS,
    ),
    "variations, SDK": (
        keys_of(image_create_variation_params.ImageCreateVariationParams),
        names_of(ImageVariationRequest),
        VARIATIONS,
    ),
}


@pytest.mark.parametrize("source", KNOWN)
def test_every_known_key_is_in_the_schema(source):
    known, schema, _ = KNOWN[source]
    assert len(known) > 1
    assert known - schema == set()


@pytest.mark.parametrize("source", KNOWN)
def test_every_known_key_is_on_the_compatibility_page(source):
    known, _, heading = KNOWN[source]
    assert known - set(documented(heading)) == set()


@pytest.mark.parametrize(
    ("struct", "heading"),
    [
        (ChatCompletionRequest, CHAT),
        (StreamOptions, "### `stream_options`"),
        (ChatMessage, "### Messages"),
        (EmbeddingRequest, EMBEDDINGS),
        (RerankRequest, "## `POST /v1/rerank`"),
        (TranscriptionRequest, TRANSCRIPTIONS),
        (TranslationRequest, TRANSLATIONS),
        (CreateSpeechRequest, SPEECH),
        (CreateSoundRequest, GENERATIONS),
        (CreateVideoRequest, VIDEOS),
        (ImageGenerationRequest, PICTURES),
        (ImageEditRequest, EDITS),
        (ImageVariationRequest, VARIATIONS),
    ],
)
def test_every_key_of_ours_is_on_the_page(struct, heading):
    assert names_of(struct) - set(documented(heading)) == set()


def test_every_key_of_a_response_s_request_is_on_the_page():
    beyond = set(re.findall(r"`([a-z_]+)`", PAGE.split(f"\n{RESPONSES}\n")[1].split("Beyond OpenAI:")[1].split("\n\n")[0]))
    assert names_of(CreateResponseRequest) - set(documented(RESPONSES)) - beyond == set()
    assert keys_of(input_token_count_params.InputTokenCountParams) - names_of(InputTokensRequest) == set()


def test_every_key_of_a_legacy_completion_is_on_the_page():
    shared = set(documented("### Beyond OpenAI"))
    assert names_of(CompletionRequest) - set(documented(LEGACY)) <= shared


def test_the_page_knows_four_outcomes():
    tables = [documented(heading) for heading in {heading for _, _, heading in KNOWN.values()}]
    assert {outcome for table in tables for outcome in table.values()} == OUTCOMES


@pytest.mark.parametrize(
    ("params", "struct"),
    [
        (video_list_params.VideoListParams, VideoListQuery),
        (video_remix_params.VideoRemixParams, RemixVideoRequest),
        (video_download_content_params.VideoDownloadContentParams, VideoContentQuery),
    ],
)
def test_every_parameter_beside_an_order_for_a_video_is_known(params, struct):
    assert keys_of(params) == names_of(struct)


def test_a_video_has_every_key_that_the_sdk_reads():
    assert set(openai.types.Video.model_fields) == names_of(Video)
    assert set(openai.types.VideoDeleteResponse.model_fields) == names_of(VideoDeleted)
