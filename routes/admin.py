"""API keys, for operators. These routes are served on a listener of their own, and never on the clients'."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from litestar import Controller, Request, delete, get, patch, post
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency
from litestar.params import FromPath

from openai_compat.errors import UnsupportedMediaType
from openai_compat.http.openapi import documented
from routes.queries import query_of
from schemas.admin import CreateKey, Key, KeyDeleted, KeyList, KeyListQuery, NewKey, UpdateKey
from schemas.decode import decode

AnyRequest = Request[Any, Any, Any]


@runtime_checkable
class KeyDesk(Protocol):
    """Keeps the keys. ``by`` is the id of the operator's own key, for the audit log; empty where the socket's file is the key.

    ``NotFound`` is raised for an id that no key has.
    """

    async def list(self, query: KeyListQuery) -> KeyList: ...

    async def create(self, order: CreateKey, by: str) -> NewKey: ...

    async def get(self, id: str) -> Key: ...

    async def update(self, id: str, change: UpdateKey, by: str) -> Key: ...

    async def revoke(self, id: str, by: str) -> KeyDeleted: ...


class KeyController(Controller):
    """No answer may be kept on its way: one of them holds a key."""

    path = "/admin/keys"
    tags = ("Keys",)
    cache_control = CacheControlHeader(no_store=True)

    @get(operation_class=documented(None, KeyList, query=KeyListQuery))
    async def list(self, request: AnyRequest, keys: NamedDependency[KeyDesk]) -> KeyList:
        """All keys that were made while a server ran, the oldest first, revoked and expired ones too."""
        return await keys.list(query_of(request, KeyListQuery))

    @post(status_code=200, operation_class=documented(CreateKey, NewKey))
    async def create(self, request: AnyRequest, keys: NamedDependency[KeyDesk]) -> NewKey:
        """Make a key. It is in force at once, and shown in this answer only."""
        return await keys.create(decode(await _body(request), CreateKey), _operator(request))

    @get("/{key_id:str}", operation_class=documented(None, Key))
    async def retrieve(self, keys: NamedDependency[KeyDesk], key_id: FromPath[str]) -> Key:
        """What a key may do, and what it has cost."""
        return await keys.get(key_id)

    @patch("/{key_id:str}", operation_class=documented(UpdateKey, Key, refuses=(409,)))
    async def update(self, request: AnyRequest, keys: NamedDependency[KeyDesk], key_id: FromPath[str]) -> Key:
        """Change what a key may do, at once."""
        return await keys.update(key_id, decode(await _body(request), UpdateKey), _operator(request))

    @delete("/{key_id:str}", status_code=200, operation_class=documented(None, KeyDeleted))
    async def revoke(self, request: AnyRequest, keys: NamedDependency[KeyDesk], key_id: FromPath[str]) -> KeyDeleted:
        """Revoke a key, at once and for good. Its row stays, so that its usage has a name."""
        return await keys.revoke(key_id, _operator(request))


async def _body(request: AnyRequest) -> bytes:
    """Only JSON that is said to be JSON: a web page can make a browser send anything else without asking."""
    kind, _ = request.content_type
    if kind != "application/json":
        raise UnsupportedMediaType("Send JSON, with the content type application/json.")
    return await request.body()


def _operator(request: AnyRequest) -> str:
    return str(request.scope["state"].get("key_id", ""))
