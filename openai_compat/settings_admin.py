"""What types cannot say of ``admin.listen``."""

from __future__ import annotations

from openai_compat.auth import is_loopback
from openai_compat.config import Config
from openai_compat.http.listening import UNIX
from openai_compat.layers import Place, mistake

_PATH = ("admin", "listen")


def check_admin(config: Config, place: Place) -> None:
    """Raises ``ConfigError``."""
    address = config.admin.listen
    if not address:
        return
    if address.startswith(UNIX):
        if not address.removeprefix(UNIX).startswith("/"):
            raise mistake(place, _PATH, "the path of a socket begins with '/': write \"unix:/run/openai-compat/admin.sock\"")
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise mistake(place, _PATH, f'\'{address}\' is no address: write "127.0.0.1:8001" or "unix:/path/to/admin.sock"')
    if not is_loopback(host) and not config.server.tls_cert:
        raise mistake(
            place, _PATH, f"other machines can reach '{host}', and operators' keys would go over the network unencrypted: "
            "set server.tls_cert and server.tls_key, or listen on 127.0.0.1 or a Unix socket"
        )  # fmt: skip
