"""What types cannot say of the settings of ``server`` that are about connections: proxies and certificates."""

from __future__ import annotations

from openai_compat.config import Config
from openai_compat.http.proxies import network
from openai_compat.layers import Place, mistake


def check_edge(config: Config, place: Place) -> None:
    """Raises ``ConfigError``."""
    for proxy in config.server.trusted_proxies:
        _check_proxy(proxy, place)
    if bool(config.server.tls_cert) != bool(config.server.tls_key):
        given, missing = ("tls_cert", "tls_key") if config.server.tls_cert else ("tls_key", "tls_cert")
        raise mistake(place, ("server", given), f"a certificate and its key go together: set server.{missing}, too")


def _check_proxy(proxy: str, place: Place) -> None:
    try:
        network(proxy)
    except ValueError:
        raise mistake(
            place,
            ("server", "trusted_proxies"),
            f'\'{proxy}\' is not the address or network of a proxy: write "10.0.0.7" or "10.0.0.0/24", and not everybody\'s',
        ) from None
