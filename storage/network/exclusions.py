"""Reads the entries of no_proxy, and compares hosts with them."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from dataclasses import dataclass

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


@dataclass(frozen=True, slots=True)
class Exclusion:
    """One entry of no_proxy: everything, a network, or a host with its subdomains."""

    everything: bool = False
    network: _Network | None = None
    host: str = ""
    port: int | None = None

    def matches(self, host: str, address: _Address | None, port: int | None) -> bool:
        """Whether the entry excludes this host and port. `normal` gives `host` and `address`."""
        if self.port is not None and self.port != port:
            return False
        if self.everything:
            return True
        if self.network is not None:
            return address is not None and address in self.network
        return address is None and (host == self.host or host.endswith(f".{self.host}"))


def exclusion(entry: str) -> Exclusion | None:
    """Parses an entry of no_proxy; None if it cannot be read."""
    if entry == "*":
        return Exclusion(everything=True)
    network = _network(entry)
    if network is not None:
        return Exclusion(network=network)
    place, colon, digits = entry.rpartition(":")
    port = None
    if colon:
        if not digits.isdecimal() or not 0 < int(digits) < 65_536:
            return None
        entry, port = place, int(digits)
        if entry == "*":
            return Exclusion(everything=True, port=port)
        network = _network(entry)
        if network is not None:
            return Exclusion(network=network, port=port)
    host, address = normal(entry.removeprefix("*").lstrip("."))
    if address is not None or not _HOST.fullmatch(host):
        return None
    return Exclusion(host=host, port=port)


def _network(text: str) -> _Network | None:
    """Parses an address or a network, with or without brackets; None if it is neither."""
    bracketed = re.fullmatch(r"\[([^\]]+)\](/\d+)?", text)
    if bracketed:
        text = bracketed[1] + (bracketed[2] or "")
    elif ":" in text and text.count(":") == 1:
        return None  # host:port
    place, slash, length = text.partition("/")
    try:
        return ipaddress.ip_network(f"{place.partition('%')[0]}{slash}{length}", strict=False)
    except ValueError:
        return None


def normal(host: str) -> tuple[str, _Address | None]:
    """The host in lower case (names in other scripts as punycode), and its address if it is one."""
    host = host.strip("[]").rstrip(".").lower()
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        if not host.isascii():
            # A name that cannot be encoded stays as it is.
            with contextlib.suppress(UnicodeError):
                host = host.encode("idna").decode("ascii")
        return host, None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return host, mapped or address
