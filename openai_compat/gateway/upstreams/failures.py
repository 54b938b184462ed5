"""What went wrong on the way to an upstream, before its answer began: in words for the client, and a line for the log.

Of aiohttp's own words none are shown: they hold addresses, and some of its errors hold the headers that we sent.
"""

from __future__ import annotations

import errno
import logging

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from openai_compat.errors import RateLimited, Unavailable, UnsupportedCapability, UpstreamError, UpstreamTimeout
from openai_compat.gateway.order import Failure
from openai_compat.gateway.upstreams.keys import KeyUnavailable

logger = logging.getLogger(__name__)
# What keeps this process from connecting to anybody: no reason to think that the upstream is down.
_OUR_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_OTHER_HOST = frozenset({62, 63, 64})  # OpenSSL's numbers of the verdicts whose words hold the host's name


def failure_of(error: Exception, upstream: str, model: str) -> Failure:
    """``upstream`` is its name in the configuration, ``model`` the public one."""
    failure, why = _told(error, model)
    logger.warning("upstream '%s': %s", upstream, why)
    return failure


def full(upstream: str, model: str) -> Failure:
    """As many requests are there already as may be."""
    logger.info("upstream '%s': max_in_flight is reached", upstream)
    error = RateLimited(f"The upstream of the model '{model}' is given no more requests at once.", retry_after=1)
    return Failure("rate_limited", error)  # it was not the upstream that asked for a pause


def not_there(model: str) -> Failure:
    """The route is none that upstreams share."""
    message = f"The model '{model}' does not support this: it is served by an upstream, which cannot be asked for it."
    return Failure("refused", UnsupportedCapability(message, param="model"))


def redirected(upstream: str, model: str) -> Failure:
    """Following it could take the key elsewhere."""
    logger.warning("upstream '%s': it answers with a redirect, which is not followed; see its base_url", upstream)
    return Failure("refused", UpstreamError(f"The upstream of the model '{model}' answered with a redirect.", retry=False))


def unreadable(upstream: str, model: str) -> Failure:
    """We ask for plain answers, and unpack the usual ones all the same."""
    logger.warning("upstream '%s': its answer is packed in a way that is not known here", upstream)
    error = UpstreamError(f"The upstream of the model '{model}' answered in an unknown encoding.", retry=False)
    return Failure("refused", error)


def _told(error: Exception, model: str) -> tuple[Failure, str]:
    who = f"The upstream of the model '{model}'"
    match error:
        case KeyUnavailable():
            keyless = UpstreamError(f"There is no key for the upstream of the model '{model}'.", retry=False)
            return Failure("refused", keyless), str(error)
        case aiohttp.ConnectionTimeoutError():
            slow = UpstreamTimeout(f"{who} could not be reached in time.")
            return Failure("not_begun", slow), "no connection within connect_timeout"
        case aiohttp.ClientConnectorError() if error.errno in _OUR_SHORTAGES:
            short = Unavailable("The server has too many open connections.", retry_after=1)
            return Failure("not_begun", short), "this process can open no more connections"
        case aiohttp.ClientConnectorError() | aiohttp.ClientConnectorCertificateError() | aiohttp.ClientHttpProxyError():
            return Failure("not_begun", UpstreamError(f"{who} could not be reached.")), _unreached(error)
        case TimeoutError():
            late = UpstreamTimeout(f"{who} did not answer in time.")
            return Failure("timeout", late), "no answer within first_byte_timeout"
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError() | HttpProcessingError():
            nonsense = UpstreamError(f"{who} answered with something that is not HTTP.")
            return Failure("server_error", nonsense), "its answer's head is not HTTP"
        case _:
            lost = UpstreamError(f"{who} broke off before it answered.")
            return Failure("lost", lost), f"the connection broke before the answer ({type(error).__name__})"


def _unreached(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"its certificate is not trusted: {distrust(error.certificate_error)}"
        case aiohttp.ClientConnectorSSLError():
            return "no TLS with it"
        case aiohttp.ClientConnectorDNSError():
            return "its host's name has no address"
        case aiohttp.ClientHttpProxyError():
            return f"the proxy answers with {error.status}"
        case aiohttp.ClientProxyConnectionError():
            return "the proxy cannot be reached"
        case aiohttp.ClientOSError():
            return f"no connection ({errno.errorcode.get(error.errno or 0, 'unknown')})"
        case _:
            return "no connection"


def distrust(error: Exception) -> str:
    """Why a certificate is not trusted, without the names in it."""
    if getattr(error, "verify_code", 0) in _OTHER_HOST:
        return "it is another host's"
    return str(getattr(error, "verify_message", "it cannot be verified"))
