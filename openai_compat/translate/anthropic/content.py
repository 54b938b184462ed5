"""Blocks that say something → pieces of a chat's message: words, and addresses of pictures."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from openai_compat.errors import UnsupportedParameter
from schemas.anthropic_blocks import (
    Base64Source,
    BrowserStateBlock,
    DocumentBlock,
    FileSource,
    ImageBlock,
    SearchResultBlock,
    TextBlock,
    TextSource,
    ToolReferenceBlock,
    UrlSource,
)

BLANK_LINE = "\n\n"
Telling = TextBlock | ImageBlock | DocumentBlock | SearchResultBlock | ToolReferenceBlock | BrowserStateBlock


class Piece(Struct, frozen=True, kw_only=True):
    """Words, or a picture's ``url``; ``origin`` is where the client wrote it."""

    origin: str
    text: str = ""
    url: str = ""


def pieces_of(block: Telling, where: str) -> Iterator[Piece]:
    """Raises ``UnsupportedParameter`` for files of Anthropic's, and for PDFs."""
    match block:
        case TextBlock(text=text):
            yield from _words(text, where)
        case ImageBlock(source=source):
            yield Piece(origin=f"{where}.source", url=_picture(source, f"{where}.source"))
        case DocumentBlock():
            yield from _document(block, where)
        case SearchResultBlock():
            texts = [part.text for part in block.content]
            yield from _words(_marked("search_result", [block.title, block.source, *texts]), where)
        case ToolReferenceBlock(tool_name=name):
            yield from _words(f"The tool {name} may be called.", where)


def _words(text: str, where: str) -> Iterator[Piece]:
    if text:
        yield Piece(origin=where, text=text)


def _picture(source: Base64Source | UrlSource | FileSource, where: str) -> str:
    if isinstance(source, FileSource):
        raise UnsupportedParameter("Files are not kept here; send the image itself.", param=where)
    return source.url if isinstance(source, UrlSource) else f"data:{source.media_type};base64,{source.data}"


def _document(block: DocumentBlock, where: str) -> Iterator[Piece]:
    source = block.source
    if isinstance(source, Base64Source | UrlSource):
        raise UnsupportedParameter("PDF documents are not supported; send their text.", param=f"{where}.source")
    if isinstance(source, FileSource):
        raise UnsupportedParameter("Files are not kept here; send the document's text.", param=f"{where}.source")
    head = [block.title or "", block.context or ""]
    if isinstance(source, TextSource):
        yield from _words(_marked("document", [*head, source.data]), where)
    elif isinstance(source.content, str):
        yield from _words(_marked("document", [*head, source.content]), where)
    else:
        yield from _words(_marked("document", head) if any(head) else "", where)
        for number, part in enumerate(source.content):
            yield from pieces_of(part, f"{where}.source.content[{number}]")


def _marked(name: str, lines: list[str]) -> str:
    """Words of somebody else's, between marks that tell the model so."""
    return "\n".join([f"<{name}>", *filter(None, lines), f"</{name}>"])
