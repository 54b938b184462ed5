"""The server's certificate, which is renewed while connections are open."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable

from openai_compat.config import ConfigError, Server
from openai_compat.http.listening import ListenError
from openai_compat.http.tls import server_context

_logger = logging.getLogger("openai_compat.http")
_SOON = 14 * 86_400  # seconds before its end in which a certificate is worth a warning
_EXPIRED, _NOT_YET = 10, 9  # OpenSSL's numbers


class Certificates:
    """``context`` is listened with; each handshake goes on with the certificate that is in force by then.

    So a file that is renewed while it is read, or is no certificate any more, harms nobody. Raises ``ListenError``.
    """

    def __init__(self, cert: str, key: str) -> None:
        self._files = cert, key
        self.context = server_context(cert, key)
        self._now = self.context
        self.context.sni_callback = self._choose
        _tell_age(self.context, cert)

    @classmethod
    def of(cls, server: Server) -> Certificates | None:
        """None where connections are not encrypted."""
        return cls(server.tls_cert, server.tls_key) if server.tls_cert else None

    def renewed(self) -> Callable[[], None]:
        """Read the files again; call what is returned to put them in force. Raises ``ConfigError``."""
        cert, key = self._files
        try:
            context = server_context(cert, key)
        except ListenError as error:
            raise ConfigError(str(error)) from None
        _tell_age(context, cert)
        return lambda: self._use(context)

    def _use(self, context: ssl.SSLContext) -> None:
        self._now = context

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        """Called for each handshake, with or without a name."""
        connection.context = self._now


def _tell_age(context: ssl.SSLContext, cert: str) -> None:
    if note := age_of(context, cert, time.time()):
        _logger.warning("the certificate '%s' %s", cert, note)


def age_of(context: ssl.SSLContext, cert: str, now: float) -> str:
    """What is to be said of the certificate's dates, as a client would see them; empty where nothing is."""
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client_context.load_verify_locations(cert)
    try:
        seen = _seen(context, client_context)
    except ssl.SSLCertVerificationError as error:
        return {_EXPIRED: "has expired", _NOT_YET: "is not valid yet"}.get(error.verify_code, "")
    except ssl.SSLError:
        return ""
    left = ssl.cert_time_to_seconds(str(seen["notAfter"])) - now if "notAfter" in seen else _SOON
    return f"expires in {left / 86_400:.0f} days" if left < _SOON else ""


def _seen(context: ssl.SSLContext, client_context: ssl.SSLContext) -> dict[str, object]:
    """What a client is shown, found by a handshake in memory."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server)
    for _ in range(3):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return dict(client.getpeercert() or {})
