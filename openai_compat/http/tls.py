"""TLS for clients: which versions, and what is said of a certificate that cannot be used."""

from __future__ import annotations

import ssl
from typing import NoReturn

from openai_compat.http.listening import ListenError

HANDSHAKE_TIME = 5.0
"""Seconds that a client has for the handshake; nothing is known of it before."""


def server_context(cert: str, key: str) -> ssl.SSLContext:
    """For the certificate chain in the file ``cert`` and its key in the file ``key``; TLS 1.2 and newer.

    Raises ``ListenError``.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except FileNotFoundError:
        raise ListenError(f"There is no certificate at '{cert}', or no key at '{key}'.") from None
    except PermissionError:
        raise ListenError(f"The certificate '{cert}' or its key '{key}' may not be read by this user.") from None
    except (OSError, ValueError) as error:
        raise ListenError(f"The certificate '{cert}' and the key '{key}' cannot be used: {_reason(error)}.") from None
    return context


def _no_password() -> NoReturn:
    """A server cannot be asked for one."""
    raise ValueError("the key is protected by a password")


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "it is no PEM file").replace("_", " ").lower()
    return str(error)
