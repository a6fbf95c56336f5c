"""Reads from the environment which proxy a connection takes and which certificates it trusts.

All clients of the project use this module, in storages and in links, so that the variables mean the
same everywhere:

- ``http_proxy``, ``https_proxy`` and ``all_proxy`` (for both), in lower or upper case; lower case
  wins, and an empty value means no proxy. The scheme of a proxy's URL is http, https, socks5 or
  socks5h; the URL may contain a login. The proxy resolves host names.
- ``no_proxy``: a list of hosts with their subdomains (``example.com``, ``.example.com``,
  ``*.example.com``), addresses, networks (``10.0.0.0/8``, ``fe80::/10``), each with or without a
  port (``host:8080``, ``[::1]:9200``), or ``*`` for everything. An address or network matches only
  an address in the URL; no host name is resolved for it.
- Certificates to trust: those of an option, else ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, else
  ``REQUESTS_CA_BUNDLE``, else ``CURL_CA_BUNDLE``, else the system's.

`check` and `unreadable_exclusions` find mistakes before anything is sent. Their messages name the
variable and never show its value, which may contain a password. This package imports only the
standard library.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence

from storage.network.certificates import Trust, tls_context, trust
from storage.network.faults import Fault, NetworkSettingsError
from storage.network.proxies import (
    DEFAULT_PORTS,
    PROXY_LOGIN,
    Proxy,
    botocore_proxies,
    failure,
    is_login_wanted,
    proxy_for,
    unreadable_exclusions,
    wants_login,
)

__all__ = [
    "DEFAULT_PORTS",
    "PROXY_LOGIN",
    "Fault",
    "NetworkSettingsError",
    "Proxy",
    "Trust",
    "botocore_proxies",
    "check",
    "failure",
    "is_login_wanted",
    "proxy_for",
    "tls_context",
    "trust",
    "unreadable_exclusions",
    "wants_login",
]


def check(
    urls: Iterable[str],
    *,
    ca_file: str | None = None,
    option: str = "ca_certs",
    variables: Sequence[str] = (),
    socks_package: str = "socks",
    environ: Mapping[str, str] | None = None,
) -> None:
    """Checks the proxies and certificates for URLs (http or https), without connecting.

    Args:
        ca_file: the file or folder with certificates that an option names; None without one.
        option: the name of that option.
        variables: further variables that name certificates; they override the common ones.
        socks_package: the import name of the package that the client needs for a SOCKS proxy.

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
