"""Which addresses of a stranger's URL may be connected to: those of the open Internet.

The address itself is checked, at the moment of connecting, and connected to: a name that resolves
to something else a moment later gains nothing by it. fetch.py reads from such URLs, send.py
sends to them.
"""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import socket
from urllib.parse import urlsplit

from conserver.errors import Rejected

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PROTOCOLS = ipaddress.ip_network("192.0.0.0/24")
"""For protocols of the IETF; a cloud has its metadata there. Older Pythons count it as global."""

FETCH_REMEDY = "nothing is fetched from there unless `allow_private_addresses` is true"


def target_of(url: str, method: str = "GET") -> str:
    """The URL without its credentials and fragment, if it is one that may be fetched at all."""
    try:
        parts = urlsplit(url)
        port = parts.port
        # Names in other scripts travel as punycode; an IPv6 address has its own form.
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host.encode("idna").decode("ascii")
    except ValueError as error:  # UnicodeError is one.
        raise Rejected(f"{method} {named(url)}: not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise Rejected(f"{method} {named(url)}: only http and https URLs are used")
    place = f"{host}:{port}" if port is not None else host
    path = _quoted(parts.path or "/") + (f"?{_quoted(parts.query)}" if parts.query else "")
    return f"{parts.scheme}://{place}{path}"


def _quoted(text: str) -> str:
    """What a request line cannot hold, percent-encoded; what is encoded stays as it is."""
    return "".join(
        character
        if "!" <= character <= "~"
        else "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "replace"))
        for character in text
    )


def check_host(target: str, remedy: str = FETCH_REMEDY) -> None:
    """Raises Rejected where a host that can be looked up here is one of our own networks."""
    httpcore = importlib.import_module("httpcore")
    parts = urlsplit(target)
    with contextlib.suppress(httpcore.ConnectError):
        of_host(parts.hostname or "", parts.port or 0, False, all_of_them=True, remedy=remedy)


def of_host(
    host: str,
    port: int,
    allow_private: bool,
    *,
    all_of_them: bool = False,
    remedy: str = FETCH_REMEDY,
) -> list[Address]:
    """The addresses of a host that may be connected to.

    Raises:
        Rejected: it has only addresses that may not, or, if `all_of_them` must be allowed, one.
        httpcore.ConnectError: it has none at the moment.
    """
    httpcore = importlib.import_module("httpcore")
    try:
        infos = socket.getaddrinfo(_as_resolved(host), port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore.ConnectError(f"{host}: {error}") from error
    found = [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in infos]
    allowed = [address for address in found if allow_private or is_public(address)]
    if found and (not allowed or (all_of_them and len(allowed) < len(found))):
        name = host if host == str(found[0]) else f"{host} ({found[0]})"
        raise Rejected(f"{name} is an address of our own networks: {remedy}")
    return allowed


def _as_resolved(host: str) -> str:
    """A host as a proxy may understand it, although the resolver of this machine may not.

    Every name in localhost is this machine (RFC 6761); a final dot changes neither that nor a
    numeric address.
    """
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return "localhost"
    try:
        socket.inet_aton(name)
    except OSError:
        return host
    return name


def is_public(address: Address) -> bool:
    """Whether an address is one of the open Internet, also when it is wrapped in an IPv6 one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address.teredo is not None:
            inner = address.teredo[1]
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(inner)
    if address in _PROTOCOLS:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def named(url: str) -> str:
    """The URL for a message: without credentials and query."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:200]
    except ValueError:
        return repr(url.partition("?")[0][:200])
