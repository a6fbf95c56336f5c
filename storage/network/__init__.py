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
