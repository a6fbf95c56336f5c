"""Validates Redis URLs, with messages that do not quote them.

It refuses all URLs that the client would report late, ignore, or misunderstand: a port that is not
a number, a name for a database, an unknown parameter. In an invalid URL, nobody knows which part is
the password, so no message contains any part of it.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_SCHEMES_TEXT = ", ".join(f"{scheme}://" for scheme in SCHEMES)

# Parameters of redis-py in REDIS_URL -> regular expressions of the values that are allowed here.
# The queue needs RESP2 and bytes, so some values of redis-py are not.
_SECONDS = r"(?=.*[1-9])[0-9]+(\.[0-9]+)?"
_SWITCH = r"(?i:1|0|true|false|t|f|yes|no|y|n)"
_FLAG = r"VERIFY_(DEFAULT|CRL_CHECK_(LEAF|CHAIN)|X509_(STRICT|TRUSTED_FIRST|PARTIAL_CHAIN)"
_FLAG += r"|ALLOW_PROXY_CERTS)"
_REDIS_LOGIN_QUERY = {"username": ".*", "password": ".*"}
_REDIS_QUERY = {
    **_REDIS_LOGIN_QUERY,
    "db": "[0-9]+",
    "client_name": ".*",
    "encoding": "(?i:utf-?8)",
    "protocol": "2",
    "socket_timeout": _SECONDS,
    "socket_connect_timeout": _SECONDS,
    "socket_read_size": "[1-9][0-9]*",
    "max_connections": "[1-9][0-9]*",
    "health_check_interval": "[0-9]+",
    "retry_on_timeout": _SWITCH,
}
_REDIS_TLS_QUERY = {
    "ssl_keyfile": ".*",
    "ssl_certfile": ".*",
    "ssl_password": ".*",
    "ssl_ca_certs": ".*",
    "ssl_ca_path": ".*",
    "ssl_ca_data": ".*",
    "ssl_ciphers": ".*",
    "ssl_cert_reqs": "none|optional|required",
    "ssl_check_hostname": _SWITCH,
    "ssl_min_version": "769|77[0-2]",
    "ssl_include_verify_flags": rf"\[?{_FLAG}(, *{_FLAG})*\]?",
    "ssl_exclude_verify_flags": rf"\[?{_FLAG}(, *{_FLAG})*\]?",
}
_IN_LOGIN = "in a login write %2F for /, %3A for : and %3F for ?"
_REDIS_HOST = re.compile(r"(\[[0-9a-fA-F:.]+(%\w+)?\]|[^\[\]:]*)(:(?P<port>[0-9]{0,5}))?")


def fault_of(url: str) -> str:
    """The reason why a Redis URL is invalid, without any part of the URL; "" if it is valid."""
    scheme, mark, _ = url.partition("://")
    if not mark or scheme not in SCHEMES:
        return f"must begin with {_SCHEMES_TEXT}"
    if re.search(r"[\s\x00-\x20\x7f#]", url):
        return "must hold no blank, no control character and no `#`: in a login write %20, %23"
    try:
        parts = urlsplit(url)
    except ValueError:
        return "is no URL: it has brackets or letters that no host may have"
    if scheme == "unix":
        fault = _socket_fault(parts)
    elif scheme.endswith("+sentinel"):
        fault = _sentinel_fault(parts)
    else:
        fault = _server_fault(parts)
    return fault or _query_fault(parts)


def _socket_fault(parts: SplitResult) -> str:
    host = parts.netloc.rpartition("@")[2]
    right = host in ("", "localhost") and len(parts.path) > 1
    return "" if right else "must be unix:///path/of/the.sock?db=0"


def _server_fault(parts: SplitResult) -> str:
    if not _is_host(parts.netloc.rpartition("@")[2]):
        return f"must have a port from 1 to 65535 behind its host; {_IN_LOGIN}"
    if not re.fullmatch("(/([0-9]+/?)?)?", unquote(parts.path)):
        return f"must have the number of a database behind the /, or nothing; {_IN_LOGIN}"
    return ""


def _sentinel_fault(parts: SplitResult) -> str:
    hosts = parts.netloc.rpartition("@")[2].split(",")
    named = all(_is_host(host) and host.partition(":")[0] for host in hosts)
    if not named or not re.fullmatch("/+[^/]+(/+[0-9]+)?/*", parts.path):
        return f"must be {parts.scheme}://host:26379,host:26379/service/0; {_IN_LOGIN}"
    return ""


def _is_host(text: str) -> bool:
    match = _REDIS_HOST.fullmatch(text)
    return bool(match) and 1 <= int(match["port"] or 6379) <= 65535  # type: ignore[index]


def _query_fault(parts: SplitResult) -> str:
    known = known_in_query(parts.scheme)
    if "@" in parts.query and "=" not in parts.query:
        return "must have no `?` in its login: write %3F"
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known:
            # If an @ follows, the name may be the end of a password.
            told = "what it has behind its ?" if "@" in parts.query else f"`{name}`"
            return f"cannot take {told}; {parts.scheme}:// knows {', '.join(known)}"
        if value and not re.fullmatch(known[name], value):
            return f"has a value for `{name}` that cannot be used"
    return ""


def known_in_query(scheme: str) -> dict[str, str]:
    """The parameters of a scheme: name -> regular expression of its values."""
    tls = _REDIS_TLS_QUERY if scheme.startswith("rediss") else {}
    if scheme.endswith("+sentinel"):
        return {f"sentinel_{name}": form for name, form in _REDIS_LOGIN_QUERY.items()} | tls
    keepalive = {} if scheme == "unix" else {"socket_keepalive": _SWITCH}
    return _REDIS_QUERY | keepalive | tls
