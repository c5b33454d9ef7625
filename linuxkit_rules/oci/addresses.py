"""Kinds of network addresses, and which of them a server may send us to.

A registry out in the internet must not be able to make us ask a machine that only we can reach: the cloud's
metadata service, a router, a server on loopback.
https://www.iana.org/assignments/iana-ipv4-special-registry and iana-ipv6-special-registry
"""

from __future__ import annotations

import enum
import ipaddress

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")


class Kind(enum.Enum):
    """What can be reached at an address; the value is the word that messages use."""

    LOOPBACK = "loopback"
    PRIVATE = "private"
    LINK_LOCAL = "link-local"
    PUBLIC = "public"
    UNUSABLE = "unusable"


_BY_TRUST = (Kind.LOOPBACK, Kind.PRIVATE, Kind.LINK_LOCAL, Kind.PUBLIC, Kind.UNUSABLE)


def kind(text: str) -> Kind:
    """Give the kind of an IPv4 or IPv6 address; raise ValueError where ``text`` is none.

    An IPv6 address that stands for an IPv4 one (mapped, 6to4, Teredo, NAT64) is of that one's kind.
    Multicast, unspecified and reserved addresses are ``UNUSABLE``; others that are not global, ``PRIVATE``.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64_LOCAL or address.is_site_local:
            return Kind.PRIVATE
        address = _embedded(address) or address
    if address.is_loopback:
        return Kind.LOOPBACK
    if address.is_link_local:
        return Kind.LINK_LOCAL
    if address.is_multicast or address.is_unspecified or address.is_reserved or address in _THIS_NETWORK:
        return Kind.UNUSABLE
    return Kind.PUBLIC if address.is_global else Kind.PRIVATE


def literal(host: str) -> Kind | None:
    """Give the kind of a host that is written as an address, or is ``localhost``; None for other names."""
    if host == "localhost" or host.endswith(".localhost"):
        return Kind.LOOPBACK
    try:
        return kind(host.strip("[]"))
    except ValueError:
        return None


def may_send(source: Kind, target: Kind) -> bool:
    """Whether a server at an address of kind ``source`` may send us to one of kind ``target``.

    Everyone may send us out to the internet; a server on this machine to this machine and its networks; any
    other only to its own kind.
    """
    if target in (Kind.PUBLIC, Kind.UNUSABLE):
        return target is Kind.PUBLIC
    return source is target or (source is Kind.LOOPBACK and target is Kind.PRIVATE)


def less_trusted(one: Kind | None, other: Kind) -> Kind:
    """Give the one of two kinds that may send us to less; None is a place that the user named."""
    return max(one or other, other, key=_BY_TRUST.index)


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
