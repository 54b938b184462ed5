"""Who changed which key, on record: ids only."""

from __future__ import annotations

import logging

OTHERS = "another process"
_audit = logging.getLogger("openai_compat.audit")


def audit(what: str, id: str, by: str) -> None:
    _audit.info("key %s %s by %s", id, what, by, extra={"fields": {"key_id": id, "action": what, "by": by}})
