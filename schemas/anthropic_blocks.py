"""Content blocks of Anthropic's messages, as clients send them.

``cache_control`` may stand anywhere and is not read: what is sent twice is found again without it. Blocks that can be no part
of a cycle are none of the garbage collector's business (``gc=False``): a body may hold a million of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from schemas.common import Name

BlockId = Annotated[str, Meta(max_length=256)]
Base64 = Annotated[str, Meta(max_length=64 * 2**20)]
MediaType = Annotated[str, Meta(pattern=r"^[A-Za-z0-9.+-]{1,32}/[A-Za-z0-9.+-]{1,64}$")]
Address = Annotated[str, Meta(max_length=8192)]
Title = Annotated[str, Meta(max_length=65_536)]


# ---------------------------------------------------------------- sources


class Base64Source(Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="base64"):
    data: Base64
    media_type: MediaType


class UrlSource(Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="url"):
    url: Address


class FileSource(Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="file"):
    file_id: Name


class TextSource(Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="text"):
    data: str
    media_type: MediaType | None = None


# ---------------------------------------------------------------- blocks that say something


class TextBlock(Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="text"):
    text: str


class ImageBlock(Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="image"):
    source: Base64Source | UrlSource | FileSource


class ContentSource(Struct, frozen=True, kw_only=True, tag_field="type", tag="content"):
    content: str | Annotated[list[TextBlock | ImageBlock], Meta(max_length=1024)]


class DocumentBlock(Struct, frozen=True, kw_only=True, tag_field="type", tag="document"):
    """Text, or a PDF, which is refused."""

    source: TextSource | ContentSource | Base64Source | UrlSource | FileSource
    title: Title | None = None
    context: Title | None = None


class SearchResultBlock(Struct, frozen=True, kw_only=True, tag_field="type", tag="search_result"):
    source: Address
    title: Title
    content: Annotated[list[TextBlock], Meta(max_length=1024)]


class ToolReferenceBlock(Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="tool_reference"):
    tool_name: Name


class BrowserStateBlock(Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="browser_state"):
    """Of a browser's tools, which are not served."""


class ThinkingBlock(Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="thinking"):
    thinking: str
    signature: str | None = None


class RedactedThinkingBlock(Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="redacted_thinking"):
    """Thoughts that only Anthropic can read."""


class ToolUseBlock(Struct, frozen=True, kw_only=True, tag_field="type", tag="tool_use"):
    id: BlockId
    name: Name
    input: Annotated[dict[str, Any], Meta(max_length=1024)] | None = None


ResultContent = Annotated[
    list[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock | ToolReferenceBlock | BrowserStateBlock],
    Meta(max_length=1024),
]


class ToolResultBlock(Struct, frozen=True, kw_only=True, tag_field="type", tag="tool_result"):
    tool_use_id: BlockId
    content: str | ResultContent | None = None
    is_error: bool | None = None


class CompactionBlock(Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="compaction"):
    """``content`` tells in short what was said before."""

    content: str | None = None


# ---------------------------------------------------------------- blocks of tools that Anthropic's servers run


class ServerToolUse(Struct, frozen=True, kw_only=True, tag_field="type", tag="server_tool_use"): ...


class WebSearchResult(Struct, frozen=True, kw_only=True, tag_field="type", tag="web_search_tool_result"): ...


class WebFetchResult(Struct, frozen=True, kw_only=True, tag_field="type", tag="web_fetch_tool_result"): ...


class AdvisorResult(Struct, frozen=True, kw_only=True, tag_field="type", tag="advisor_tool_result"): ...


class CodeResult(Struct, frozen=True, kw_only=True, tag_field="type", tag="code_execution_tool_result"): ...


class BashResult(Struct, frozen=True, kw_only=True, tag_field="type", tag="bash_code_execution_tool_result"): ...


class EditorResult(Struct, frozen=True, kw_only=True, tag_field="type", tag="text_editor_code_execution_tool_result"): ...


class ToolSearchResult(Struct, frozen=True, kw_only=True, tag_field="type", tag="tool_search_tool_result"): ...


class McpToolUse(Struct, frozen=True, kw_only=True, tag_field="type", tag="mcp_tool_use"): ...


class McpToolResult(Struct, frozen=True, kw_only=True, tag_field="type", tag="mcp_tool_result"): ...


class McpToolListing(Struct, frozen=True, kw_only=True, tag_field="type", tag="mcp_tool_listing"): ...


class ContainerUpload(Struct, frozen=True, kw_only=True, tag_field="type", tag="container_upload"): ...


class ToolAddition(Struct, frozen=True, kw_only=True, tag_field="type", tag="tool_addition"): ...


class ToolRemoval(Struct, frozen=True, kw_only=True, tag_field="type", tag="tool_removal"): ...


class FallbackMark(Struct, frozen=True, kw_only=True, tag_field="type", tag="fallback"): ...


Skipped = (
    ServerToolUse
    | WebSearchResult
    | WebFetchResult
    | AdvisorResult
    | CodeResult
    | BashResult
    | EditorResult
    | ToolSearchResult
    | McpToolUse
    | McpToolResult
    | McpToolListing
    | ContainerUpload
    | ToolAddition
    | ToolRemoval
    | FallbackMark
)
"""What Anthropic's own servers have done, and no model here has: such blocks are in conversations that began there."""
Block = (
    TextBlock
    | ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ToolUseBlock
    | ToolResultBlock
    | CompactionBlock
    | Skipped
)
Content = str | Annotated[list[Block], Meta(max_length=2048)]


class InputMessage(Struct, frozen=True, kw_only=True):
    """``system`` is an instruction in mid-conversation; with ``clear_at`` it counts until the next user message."""

    role: Literal["user", "assistant", "system"]
    content: Content | None = None
    clear_at: Literal["next_user_message", "never"] | None = None
