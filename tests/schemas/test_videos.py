"""Videos, after rule 1: every key that a client can know is in the schemas and on the page."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import msgspec
import pytest
from openai import types as sdk
from openai.types import video_create_params, video_download_content_params, video_list_params, video_remix_params

from schemas.videos import CreateVideoRequest, RemixVideoRequest, Video, VideoContentQuery, VideoDeleted, VideoListQuery

PAGE = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text()
PARAMS = [
    (video_create_params.VideoCreateParams, CreateVideoRequest),
    (video_list_params.VideoListParams, VideoListQuery),
    (video_remix_params.VideoRemixParams, RemixVideoRequest),
    (video_download_content_params.VideoDownloadContentParams, VideoContentQuery),
]


def names_of(struct: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct)}


def section() -> str:
    return PAGE.partition("## `POST /v1/videos`\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize(("params", "struct"), PARAMS)
def test_every_parameter_of_the_sdk_is_known_and_on_the_page(params, struct) -> None:
    known = set(typing.get_type_hints(params))
    assert known - names_of(struct) == set()
    assert {name for name in known if f"`{name}`" not in section()} == set()


def test_every_key_of_ours_has_its_line() -> None:
    lines = dict(re.findall(r"^\| `([a-z_]+)` \| ([A-Za-z ]+?) \|", section(), re.MULTILINE))
    assert lines.keys() == names_of(CreateVideoRequest)
    assert set(lines.values()) <= {"Honoured", "Partly", "Refused", "No effect"}


@pytest.mark.parametrize(("model", "struct"), [(sdk.Video, Video), (sdk.VideoDeleteResponse, VideoDeleted)])
def test_an_answer_has_every_key_that_the_sdk_reads(model, struct) -> None:
    assert set(model.model_fields) == names_of(struct)
