"""What was sent to an upstream, and how, for whoever reads the answer."""

from __future__ import annotations

import aiohttp
from msgspec import Struct

from openai_compat.config import Upstream
from openai_compat.gateway.order import Order, UpstreamTarget


class SendPlan(Struct, frozen=True, kw_only=True):
    """One request as it went to one upstream, handed to ``answer.begin`` with the response's head.

    ``asked_usage``: we asked for usage that the client did not ask for, so it must be removed again.
    ``echo``: the remote name and the public one where they differ; answers say the latter.
    ``secrets``: what nobody may read of us in an answer: keys, addresses.
    ``hold`` and ``ping_interval`` are seconds, as in the server's configuration.

    A packed answer is unpacked as it is read, and its headers ``content-encoding`` and ``content-length`` then go. Redirects
    never come so far.
    """

    order: Order
    target: UpstreamTarget
    upstream: Upstream
    asked_usage: bool
    echo: tuple[str, str] | None
    hold: float
    ping_interval: float
    secrets: tuple[str, ...]

    def reading(self, response: aiohttp.ClientResponse) -> None:
        """To be called once the first bytes of the body are there: from now on ``idle_timeout`` counts.

        Until then it is ``first_byte_timeout``, since many servers send the head of a stream before they look at the prompt.
        """
        connection = response.connection
        if connection is not None and connection.protocol is not None:
            connection.protocol.read_timeout = self.upstream.idle_timeout
