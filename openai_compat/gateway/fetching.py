"""What the configuration says of URLs in requests, as workers are told it."""

from __future__ import annotations

from openai_compat.config import Media
from openai_compat.protocol import FetchRules
from openai_compat.sizes import parse_size


def fetch_rules(media: Media) -> FetchRules | None:
    """None where nothing is fetched."""
    if not media.remote_urls:
        return None
    return FetchRules(hosts=media.hosts, max_bytes=parse_size(media.max_bytes), timeout=media.timeout)
