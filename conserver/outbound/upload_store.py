"""Makes the store of uploads that is configured: a folder (uploads.py) or a bucket."""

from __future__ import annotations

import atexit
import importlib
import os

from conserver.outbound.clients import Clients
from conserver.outbound.upload_bucket import BucketUploads, Place
from conserver.outbound.uploads import Store, Uploads

BUCKET_VARIABLE = "CONSERVER_UPLOAD_BUCKET"
_VARIABLES = (
    "CONSERVER_UPLOAD_DIR",
    BUCKET_VARIABLE,
    "CONSERVER_UPLOAD_ENDPOINT_URL",
    "CONSERVER_UPLOAD_PUBLIC_URL",
)

STORES: Clients[Store] = Clients()
"""The process's stores, with their connections, by the values of the variables."""


def configured(folder: str, bucket: str, endpoint_url: str = "", public_url: str = "") -> Store:
    """The store for these settings. bucket: `name` or `name/prefix`; "": the folder is used."""
    uploads = Uploads(folder or "./uploads")
    if not bucket:
        return uploads
    name, _, prefix = bucket.strip("/").partition("/")
    return BucketUploads(Place(name, prefix, endpoint_url, public_url), uploads)


def of_process() -> Store:
    """The store that the environment names. Links use it, because they have no settings."""
    values = tuple(os.environ.get(name, "").strip() for name in _VARIABLES)

    def make() -> Store:
        made = configured(*values)
        atexit.register(made.close)
        return made

    return STORES.get(values, make)


def prepare() -> None:
    """Import the packages of the store, before a fork. Raises ModuleNotFoundError."""
    if os.environ.get(BUCKET_VARIABLE, "").strip():
        importlib.import_module("boto3.s3.transfer")
