"""Finds out which certificates are trusted, and makes TLS contexts that trust them."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.network.faults import Fault, NetworkSettingsError

if TYPE_CHECKING:
    import ssl

# Variables that name a file or a folder with certificates. The first one that is set is used.
_BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_ENCODING_DER = 2  # _ssl.ENCODING_DER


@dataclass(frozen=True, slots=True)
class Trust:
    """The file or folder with the certificates to trust, and the name of the setting that names it.

    If all are empty, the system's certificates are trusted.
    """

    name: str = ""
    file: str = ""
    folder: str = ""
    is_option: bool = False


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
    """A TLS context that verifies the server's name with the trusted certificates.

    With `fingerprint` (SHA-256 in hexadecimal), a certificate of the server's chain must have this
    fingerprint instead; names and signatures are not verified.

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
    """Adds the certificates of the package certifi if the system has none."""
    import ssl

    paths = ssl.get_default_verify_paths()
    if paths.cafile or (paths.capath and any(Path(paths.capath).iterdir())):
        return
    if importlib.util.find_spec("certifi") is not None:
        import certifi

        context.load_verify_locations(certifi.where())


def _pin(context: ssl.SSLContext, fingerprint: str) -> None:
    """Makes every handshake of a context compare the fingerprints of the server's certificates."""
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
    """The SHA-256 of every certificate that the server has sent."""
    # get_unverified_chain is public since Python 3.13; before, only the inner object has it.
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
