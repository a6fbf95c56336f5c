"""Checks the URLs that vCons and callers name: connections go to public IP addresses only.

fetch.py and send.py use it. They resolve the host name, check the IP address, and connect to this
same address. So a name that resolves to a private address a moment later does no harm.
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
"""Reserved for protocols of the IETF. A cloud provider serves its metadata in this network, and
older versions of Python count it as global.
"""

FETCH_REMEDY = "nothing is fetched from there unless `allow_private_addresses` is true"


def target_of(url: str, method: str = "GET") -> str:
    """The URL without credentials and fragment. Raises Rejected if it is not http or https."""
    try:
        parts = urlsplit(url)
        port = parts.port
        # Encode names in other scripts as punycode; put an IPv6 address in brackets.
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host.encode("idna").decode("ascii")
        if " " in host or not host.isprintable():
            raise ValueError("a host name holds no space and no control character")
    except ValueError as error:  # UnicodeError is one.
        raise Rejected(f"{method} {named(url)}: not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise Rejected(f"{method} {named(url)}: only http and https URLs are used")
    place = f"{host}:{port}" if port is not None else host
    path = _quoted(parts.path or "/") + (f"?{_quoted(parts.query)}" if parts.query else "")
    return f"{parts.scheme}://{place}{path}"


def _quoted(text: str) -> str:
    """`text` with all characters percent-encoded that a request line cannot hold."""
    return "".join(
        character
        if "!" <= character <= "~"
        else "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "replace"))
        for character in text
    )


def check_host(target: str, remedy: str = FETCH_REMEDY) -> None:
    """Raises Rejected if the host's name resolves here to a private address.

    A name that does not resolve here passes: a proxy may know it.
    """
    httpcore = importlib.import_module("httpcore")
    parts = urlsplit(target)
    with contextlib.suppress(httpcore.ConnectError):
        of_host(parts.hostname or "", parts.port or 0, False, all_of_them=True, remedy=remedy)


def network_errors() -> tuple[type[Exception], ...]:
    """The exceptions of httpcore for a server that is unreachable, breaks off or is too slow."""
    core = importlib.import_module("httpcore")
    return core.NetworkError, core.TimeoutException, core.ProtocolError, core.ProxyError


def of_host(
    host: str,
    port: int,
    allow_private: bool,
    *,
    all_of_them: bool = False,
    remedy: str = FETCH_REMEDY,
) -> list[Address]:
    """The addresses of a host that a connection may use.

    Raises:
        Rejected: all addresses of the host are private; with `all_of_them`: one of them is.
        httpcore.ConnectError: the name does not resolve at the moment.
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
    """The host name as a proxy may read it, in a form that this machine's resolver reads alike.

    Every name below `localhost` is this machine (RFC 6761), with or without a final dot. A numeric
    address may have a final dot, too.
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
    """Whether an address is public. An IPv4 address inside an IPv6 address decides for it."""
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
    """The URL without credentials and query, for messages."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:200]
    except ValueError:
        return repr(url.partition("?")[0][:200])
