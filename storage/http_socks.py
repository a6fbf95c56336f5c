"""Connects through a SOCKS5 proxy. It needs PySocks, so it is imported only for such a proxy."""

from __future__ import annotations

import ssl
from typing import Any

import socks
from urllib3.connection import HTTPConnection
from urllib3.contrib.socks import SOCKSConnection, SOCKSHTTPSConnection

from storage.network import Proxy


def connection(proxy: Proxy, host: str, port: int, tls: ssl.SSLContext | None) -> HTTPConnection:
    """An unconnected connection through the proxy. The proxy resolves the host name."""
    options: Any = {
        "socks_version": socks.PROXY_TYPE_SOCKS5,
        "proxy_host": proxy.host,
        "proxy_port": proxy.port,
        "username": proxy.username or None,
        "password": proxy.password or None,
        "rdns": True,
    }
    if tls is None:
        return SOCKSConnection(options, host, port)
    return SOCKSHTTPSConnection(options, host, port, ssl_context=tls)
