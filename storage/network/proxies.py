"""Finds the proxy for a URL, from the variables of the environment."""

from __future__ import annotations

import base64
import functools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from storage.network.exclusions import Exclusion, normal
from storage.network.exclusions import exclusion as read_exclusion
from storage.network.faults import Fault, NetworkSettingsError

PROXY_LOGIN = "407"
"""The status by which a proxy asks for a login."""

DEFAULT_PORTS = {"http": 80, "https": 443}

_PROXY_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_PROXY_VARIABLES = {
    "http": ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"),
    "https": ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
}
_EXCLUSION_VARIABLES = ("no_proxy", "NO_PROXY")
_VARIABLES = (*dict.fromkeys(sum(_PROXY_VARIABLES.values(), ())), *_EXCLUSION_VARIABLES)

_NO_PROXY_URL = "is no URL of a proxy, such as http://user:password@proxy:3128"
_ESCAPES = "in a login, write special characters as %XX"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that the environment names. `scheme`: http, https, socks5 or socks5h."""

    scheme: str
    host: str
    port: int
    variable: str
    username: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        """The proxy for a message, without its login."""
        return f"the proxy {self.address} of {self.variable}"

    @property
    def address(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL without the login."""
        return f"{self.scheme}://{self.address}"

    @property
    def is_socks(self) -> bool:
        """Whether it is a SOCKS proxy, which forwards connections and not HTTP requests."""
        return self.scheme.startswith("socks")

    @property
    def authorization(self) -> str | None:
        """The value of the header Proxy-Authorization; None without a login."""
        if not self.username:
            return None
        login = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(login).decode()}"


@dataclass(frozen=True, slots=True)
class _Environment:
    """The parsed variables: a Proxy, or a Fault if its URL is unusable; and the exclusions."""

    proxies: Mapping[str, Proxy | Fault]
    exclusions: tuple[Exclusion, ...]
    unreadable: tuple[Fault, ...]


def proxy_for(url: str, environ: Mapping[str, str] | None = None) -> Proxy | None:
    """The proxy for `url` (http or https); None if none is set, or no_proxy excludes the host.

    Raises:
        NetworkSettingsError: the variable that names the proxy cannot be used.
        ValueError: `url` is no URL.
    """
    read = _environment(environ)
    parts = urlsplit(url)
    found = read.proxies.get(parts.scheme)
    if found is None:
        return None
    host, address = normal(parts.hostname or "")
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    if any(exclusion.matches(host, address, port) for exclusion in read.exclusions):
        return None
    if isinstance(found, Fault):
        raise NetworkSettingsError([found])
    return found


def failure(error: Exception, proxy: Proxy | None) -> str:
    """The message for a connection that failed; it names the proxy, if there was one."""
    said = f"{type(error).__name__}: {error}"
    if proxy is None:
        return said
    return wants_login(proxy) if is_login_wanted(said) else f"through {proxy}: {said}"


def is_login_wanted(said: str) -> bool:
    """Whether an error's text says that the proxy refused a tunnel with status 407."""
    return re.search(rf"(?:^|: ){PROXY_LOGIN}\b", said) is not None


def wants_login(proxy: Proxy) -> str:
    """The message for a proxy that answers 407."""
    given = "refuses the login that is there" if proxy.username else "wants a login"
    return f"{proxy} {given} (HTTP status {PROXY_LOGIN})"


def botocore_proxies(url: str) -> dict[str, str]:
    """The `proxies` of a botocore Config for a client of `url`; {} without a proxy.

    Without this, botocore would read the environment itself, with fewer rules. It cannot use SOCKS.

    Raises:
        NetworkSettingsError: the variable cannot be used, or botocore cannot use its proxy.
    """
    proxy = proxy_for(url)
    if proxy is None:
        return {}
    if proxy.is_socks:
        raise NetworkSettingsError([Fault(proxy.variable, "boto3 speaks to no SOCKS proxy")])
    login = f"{quote(proxy.username, '')}:{quote(proxy.password, '')}@" if proxy.username else ""
    through = f"{proxy.scheme}://{login}{proxy.address}"
    return {"http": through, "https": through}


def unreadable_exclusions(environ: Mapping[str, str] | None = None) -> list[Fault]:
    """The entries of no_proxy that exclude nothing because they cannot be read."""
    return list(_environment(environ).unreadable)


def _environment(environ: Mapping[str, str] | None) -> _Environment:
    environ = os.environ if environ is None else environ
    return _read(tuple(environ.get(name) for name in _VARIABLES))


@functools.lru_cache(maxsize=16)
def _read(values: tuple[str | None, ...]) -> _Environment:
    """Parses the values of _VARIABLES; a value is None if its variable is not set."""
    given = dict(zip(_VARIABLES, values, strict=True))
    proxies: dict[str, Proxy | Fault] = {}
    for scheme, names in _PROXY_VARIABLES.items():
        name, value = _first(given, names[:2])
        if value is None:
            name, value = _first(given, names[2:])
        if value:
            proxies[scheme] = _proxy(name, value)
    name, value = _first(given, _EXCLUSION_VARIABLES)
    exclusions: list[Exclusion] = []
    unreadable: list[Fault] = []
    for entry in re.split(r"[,\s]+", value or ""):
        if not entry:
            continue
        exclusion = read_exclusion(entry)
        if exclusion is None:
            message = f"`{entry}` is no host, address or network: it excludes nothing"
            unreadable.append(Fault(name, message))
        else:
            exclusions.append(exclusion)
    return _Environment(proxies, tuple(exclusions), tuple(unreadable))


def _first(given: Mapping[str, str | None], names: Sequence[str]) -> tuple[str, str | None]:
    """The first variable that is set (it may be empty), and its value; None if none is set."""
    for name in names:
        value = given[name]
        if value is not None:
            return name, value.strip()
    return names[-1], None


def _proxy(variable: str, value: str) -> Proxy | Fault:
    parts = urlsplit(value if "://" in value else f"http://{value}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        return Fault(variable, _NO_PROXY_URL, _ESCAPES)
    if parts.scheme not in _PROXY_PORTS:
        known = "http, https, socks5 and socks5h"
        return Fault(variable, f"proxies of the kind `{parts.scheme}` are not known", known)
    if not host or port == 0 or " " in parts.netloc:
        return Fault(variable, _NO_PROXY_URL, _ESCAPES)
    return Proxy(
        parts.scheme,
        host,
        port or _PROXY_PORTS[parts.scheme],
        variable,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )
