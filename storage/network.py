"""Reads from the environment which proxy a connection takes and which certificates it trusts.

Every client of the project asks this module, storages and links alike, so that one environment
means the same to all of them:

- ``http_proxy``, ``https_proxy`` and ``all_proxy`` (for both), in lower or upper case; lower case
  wins, and an empty value means no proxy. A proxy speaks http, https, socks5 or socks5h, and its
  URL may hold a login. Names are looked up by the proxy.
- ``no_proxy``: a list of hosts with all that is below them (``example.com``, ``.example.com``,
  ``*.example.com``), addresses, networks (``10.0.0.0/8``, ``fe80::/10``), each with or without a
  port (``host:8080``, ``[::1]:9200``), or ``*`` for everything. Addresses are compared with what
  stands in the URL; no name is looked up for this.
- Certificates to trust: what an option names, else ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, else
  ``REQUESTS_CA_BUNDLE``, else ``CURL_CA_BUNDLE``, else the system's.

`check` and `unreadable_exclusions` find what is wrong before anything is sent; their messages name
the variable and never show its value, which may hold a password. Only the standard library is
needed here.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import functools
import hashlib
import importlib.util
import ipaddress
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

if TYPE_CHECKING:
    import ssl

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PROXY_LOGIN = "407"
"""The status by which a proxy asks for a login."""

DEFAULT_PORTS = {"http": 80, "https": 443}
_PROXY_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_PROXY_VARIABLES = {
    "http": ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"),
    "https": ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
}
_EXCLUSION_VARIABLES = ("no_proxy", "NO_PROXY")
# Variables that name a file with certificates, or a folder of them; the first that is set counts.
_BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_VARIABLES = (*dict.fromkeys(sum(_PROXY_VARIABLES.values(), ())), *_EXCLUSION_VARIABLES)

_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_ENCODING_DER = 2  # _ssl.ENCODING_DER
_NO_PROXY_URL = "is no URL of a proxy, such as http://user:password@proxy:3128"
_ESCAPES = "in a login, write special characters as %XX"


@dataclass(frozen=True, slots=True)
class Fault:
    """One setting that cannot be used: its name (a variable, or an option), what is wrong, what to
    do.
    """

    name: str
    message: str
    hint: str = ""
    is_option: bool = False

    @property
    def said(self) -> tuple[str, str]:
        """The message and the hint."""
        return self.message, self.hint

    def __str__(self) -> str:
        return f"{self.name}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class NetworkSettingsError(ValueError):
    """Settings of the network cannot be used; `faults` has all that is wrong with them."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(map(str, self.faults)))


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
        """The proxy in a message, without its login."""
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
        """Whether it forwards connections and knows nothing of HTTP."""
        return self.scheme.startswith("socks")

    @property
    def authorization(self) -> str | None:
        """The value of the header Proxy-Authorization, where there is a login."""
        if not self.username:
            return None
        login = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(login).decode()}"


@dataclass(frozen=True, slots=True)
class Trust:
    """Where the certificates to trust are, and the name of the setting that says so.

    All empty: the system's are trusted.
    """

    name: str = ""
    file: str = ""
    folder: str = ""
    is_option: bool = False


@dataclass(frozen=True, slots=True)
class _Exclusion:
    """One entry of no_proxy: everything, a network, or a host with what is below it."""

    everything: bool = False
    network: _Network | None = None
    host: str = ""
    port: int | None = None

    def matches(self, host: str, address: _Address | None, port: int | None) -> bool:
        if self.port is not None and self.port != port:
            return False
        if self.everything:
            return True
        if self.network is not None:
            return address is not None and address in self.network
        return address is None and (host == self.host or host.endswith(f".{self.host}"))


@dataclass(frozen=True, slots=True)
class _Environment:
    """The variables of proxies, read. A proxy that cannot be used is a Fault."""

    proxies: Mapping[str, Proxy | Fault]
    exclusions: tuple[_Exclusion, ...]
    unreadable: tuple[Fault, ...]


def proxy_for(url: str, environ: Mapping[str, str] | None = None) -> Proxy | None:
    """The proxy on the way to `url` (http or https); None where there is none, or it is excluded.

    Raises:
        NetworkSettingsError: the variable that names it cannot be used.
        ValueError: `url` is no URL.
    """
    read = _environment(environ)
    parts = urlsplit(url)
    found = read.proxies.get(parts.scheme)
    if found is None:
        return None
    host, address = _normal(parts.hostname or "")
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    if any(exclusion.matches(host, address, port) for exclusion in read.exclusions):
        return None
    if isinstance(found, Fault):
        raise NetworkSettingsError([found])
    return found


def failure(error: Exception, proxy: Proxy | None) -> str:
    """What to say of a connection that failed, perhaps on its way through a proxy."""
    said = f"{type(error).__name__}: {error}"
    if proxy is None:
        return said
    return wants_login(proxy) if is_login_wanted(said) else f"through {proxy}: {said}"


def is_login_wanted(said: str) -> bool:
    """Whether an error's text is that of a tunnel which the proxy refuses for want of a login."""
    return re.search(rf"(?:^|: ){PROXY_LOGIN}\b", said) is not None


def wants_login(proxy: Proxy) -> str:
    """What to say of a proxy that answers 407."""
    given = "refuses the login that is there" if proxy.username else "wants a login"
    return f"{proxy} {given} (HTTP status {PROXY_LOGIN})"


def botocore_proxies(url: str) -> dict[str, str]:
    """The proxies for a botocore Config whose client asks `url`; {}: none.

    Without them botocore reads the environment itself, and less of it. It knows no SOCKS.

    Raises:
        NetworkSettingsError: the variable that names the proxy cannot be used, or not by botocore.
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


def check(
    urls: Iterable[str],
    *,
    ca_file: str | None = None,
    option: str = "ca_certs",
    variables: Sequence[str] = (),
    socks_package: str = "socks",
    environ: Mapping[str, str] | None = None,
) -> None:
    """Checks that these URLs (http or https) could be connected to; connects to nothing.

    Args:
        ca_file: the file or folder that an option names, if it does.
        option: the name of that option.
        variables: further variables that name certificates, which go before the common ones.
        socks_package: the package that the client needs for a SOCKS proxy; its import name.

    Raises:
        NetworkSettingsError: with every fault: a proxy's URL, a missing package, certificates.
    """
    faults: dict[Fault, None] = {}
    for url in urls:
        try:
            proxy = proxy_for(url, environ)
        except NetworkSettingsError as error:
            faults.update(dict.fromkeys(error.faults))
            continue
        if proxy and proxy.is_socks and not importlib.util.find_spec(socks_package):
            message = f"a SOCKS proxy needs the package `{socks_package}`, which is not installed"
            faults[Fault(proxy.variable, message, "pip install 'conserver[socks]'")] = None
        trusted = trust(ca_file, variables, environ, option)
        if trusted.name and (url.startswith("https:") or (proxy and proxy.scheme == "https")):
            try:
                tls_context(trusted)
            except NetworkSettingsError as error:
                faults.update(dict.fromkeys(error.faults))
    if faults:
        raise NetworkSettingsError(faults)


def trust(
    ca_file: str | None = None,
    variables: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    option: str = "ca_certs",
) -> Trust:
    """Which certificates to trust; see `check` for the arguments."""
    environ = os.environ if environ is None else environ
    if ca_file:
        return _bundle(option, ca_file, is_option=True)
    for variable in variables:
        if environ.get(variable):
            return _bundle(variable, environ[variable])
    file, folder = environ.get("SSL_CERT_FILE", ""), environ.get("SSL_CERT_DIR", "")
    if file or folder:
        return Trust("SSL_CERT_FILE" if file else "SSL_CERT_DIR", file, folder)
    for variable in _BUNDLE_VARIABLES:
        if environ.get(variable):
            return _bundle(variable, environ[variable])
    return Trust()


def tls_context(
    trusted: Trust,
    *,
    fingerprint: str | None = None,
    client_certificate: str | None = None,
    client_key: str | None = None,
) -> ssl.SSLContext:
    """A context for connections that verify the server by its name and these certificates.

    With `fingerprint` (SHA-256 in hexadecimal) one certificate of the server's chain must have it,
    and neither names nor signatures are looked at.

    Raises:
        NetworkSettingsError: a file cannot be read.
    """
    import ssl

    folders = trusted.folder.split(os.pathsep)
    try:
        if trusted.folder and not trusted.file and not any(Path(f).is_dir() for f in folders):
            raise FileNotFoundError(errno.ENOENT, "no such folder")
        context = ssl.create_default_context(
            cafile=trusted.file or None, capath=trusted.folder or None
        )
    except OSError as error:
        raise _unreadable(trusted.name, trusted.file or trusted.folder, error, trusted) from None
    if not trusted.name:
        _add_packaged(context)
    if client_certificate:
        try:
            context.load_cert_chain(client_certificate, client_key)
        except OSError as error:
            raise _unreadable("client_cert", client_certificate, error) from None
    if fingerprint is not None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        _pin(context, fingerprint.replace(":", "").lower())
    return context


def _environment(environ: Mapping[str, str] | None) -> _Environment:
    environ = os.environ if environ is None else environ
    return _read(tuple(environ.get(name) for name in _VARIABLES))


@functools.lru_cache(maxsize=16)
def _read(values: tuple[str | None, ...]) -> _Environment:
    """Reads the values of _VARIABLES; None: not set."""
    given = dict(zip(_VARIABLES, values, strict=True))
    proxies: dict[str, Proxy | Fault] = {}
    for scheme, names in _PROXY_VARIABLES.items():
        name, value = _first(given, names[:2])
        if value is None:
            name, value = _first(given, names[2:])
        if value:
            proxies[scheme] = _proxy(name, value)
    name, value = _first(given, _EXCLUSION_VARIABLES)
    exclusions: list[_Exclusion] = []
    unreadable: list[Fault] = []
    for entry in re.split(r"[,\s]+", value or ""):
        if not entry:
            continue
        exclusion = _exclusion(entry)
        if exclusion is None:
            message = f"`{entry}` is no host, address or network: it excludes nothing"
            unreadable.append(Fault(name, message))
        else:
            exclusions.append(exclusion)
    return _Environment(proxies, tuple(exclusions), tuple(unreadable))


def _first(given: Mapping[str, str | None], names: Sequence[str]) -> tuple[str, str | None]:
    """The first of the variables that is set, if to nothing, and its value."""
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


def _exclusion(entry: str) -> _Exclusion | None:
    """What an entry of no_proxy excludes; None for one that cannot be read."""
    if entry == "*":
        return _Exclusion(everything=True)
    network = _network(entry)
    if network is not None:
        return _Exclusion(network=network)
    place, colon, digits = entry.rpartition(":")
    port = None
    if colon:
        if not digits.isdecimal() or not 0 < int(digits) < 65_536:
            return None
        entry, port = place, int(digits)
        if entry == "*":
            return _Exclusion(everything=True, port=port)
        network = _network(entry)
        if network is not None:
            return _Exclusion(network=network, port=port)
    host, address = _normal(entry.removeprefix("*").lstrip("."))
    if address is not None or not _HOST.fullmatch(host):
        return None
    return _Exclusion(host=host, port=port)


def _network(text: str) -> _Network | None:
    """An address, with or without brackets and the length of a prefix."""
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


def _normal(host: str) -> tuple[str, _Address | None]:
    """A host in lower case and, of a name in another script, as it travels; its address if it is
    one.
    """
    host = host.strip("[]").rstrip(".").lower()
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        if not host.isascii():
            # What cannot be encoded is compared as it stands.
            with contextlib.suppress(UnicodeError):
                host = host.encode("idna").decode("ascii")
        return host, None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return host, mapped or address


def _bundle(name: str, path: str, *, is_option: bool = False) -> Trust:
    """A file with certificates, or a folder of them."""
    if Path(path).is_dir():
        return Trust(name, folder=path, is_option=is_option)
    return Trust(name, file=path, is_option=is_option)


def _unreadable(
    name: str, path: str, error: OSError, trusted: Trust | None = None
) -> NetworkSettingsError:
    """The error for a file or folder with certificates. (An ssl.SSLError is an OSError.)"""
    what = (
        "it holds none in PEM"
        if error.errno is None or hasattr(error, "reason")
        else error.strerror
    )
    message = f"`{path}` cannot be read as certificates: {what}"
    return NetworkSettingsError([Fault(name, message, is_option=not trusted or trusted.is_option)])


def _add_packaged(context: ssl.SSLContext) -> None:
    """Adds the certificates of the package certifi where the system has none."""
    import ssl

    paths = ssl.get_default_verify_paths()
    if paths.cafile or (paths.capath and any(Path(paths.capath).iterdir())):
        return
    if importlib.util.find_spec("certifi") is not None:
        import certifi

        context.load_verify_locations(certifi.where())


def _pin(context: ssl.SSLContext, fingerprint: str) -> None:
    """Makes every handshake of a context end with a look at the server's certificates."""
    import ssl

    def verify(wire: Any) -> None:
        if fingerprint not in _fingerprints(wire):
            raise ssl.SSLCertVerificationError(
                f"no certificate of the server has the fingerprint {fingerprint}"
            )

    class PinnedSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            verify(self)

    class PinnedObject(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            verify(self)

    context.sslsocket_class = PinnedSocket
    context.sslobject_class = PinnedObject


def _fingerprints(wire: Any) -> set[str]:
    """The SHA-256 of every certificate that the server has shown."""
    # Since Python 3.13 the chain has a public method; before, it is the same one level below.
    chain = wire if hasattr(wire, "get_unverified_chain") else wire._sslobj
    shown = [wire.getpeercert(binary_form=True) or b"", *_binary(chain.get_unverified_chain())]
    return {hashlib.sha256(certificate).hexdigest() for certificate in shown}


def _binary(certificates: Iterable[Any] | None) -> Iterator[bytes]:
    """Certificates in their binary form: each is bytes, or the ssl module's own class."""
    for certificate in certificates or ():
        if isinstance(certificate, bytes):
            yield certificate
        else:
            yield bytes(certificate.public_bytes(_ENCODING_DER))
