"""Which addresses belong to the public internet, and to nothing nearer."""

from __future__ import annotations

import ipaddress

_IPv4 = ipaddress.IPv4Network
_IPv6 = ipaddress.IPv6Network

# Beyond what ``is_global`` excludes, whose list depends on the release of Python.
_NOT_PUBLIC_4 = tuple(
    map(
        _IPv4,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # shared by carriers; 100.100.100.200 is a cloud's metadata
            "127.0.0.0/8",
            "168.63.129.16/32",  # a cloud's own services, at an address that looks public
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",  # multicast and reserved
        ),
    )
)
_UNICAST = _IPv6(
    "2000::/3"
)  # all that is public is in it; ::ffff:0:0/96, 64:ff9b::/96, fc00::/7, fe80::/10 and ff00::/8 are not
_NOT_PUBLIC_6 = tuple(
    map(
        _IPv6,
        (
            "2001::/23",  # protocols; Teredo, which wraps IPv4
            "2001:db8::/32",
            "2002::/16",  # 6to4, which wraps IPv4
            "3fff::/20",
        ),
    )
)


def is_public(text: str) -> bool:
    """Whether the address, as the resolver writes it, is global, unicast, and wraps no other address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if not address.is_global or address.is_multicast:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    return address in _UNICAST and address.scope_id is None and not any(address in network for network in _NOT_PUBLIC_6)
