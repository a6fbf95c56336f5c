"""Which store of uploads is configured: a folder, or a bucket."""

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
"""Of the process: with their connections."""


def configured(folder: str, bucket: str, endpoint_url: str = "", public_url: str = "") -> Store:
    """The store of these settings. bucket: its name, and behind a slash a prefix; "" for none."""
    uploads = Uploads(folder or "./uploads")
    if not bucket:
        return uploads
    name, _, prefix = bucket.strip("/").partition("/")
    return BucketUploads(Place(name, prefix, endpoint_url, public_url), uploads)


def of_process() -> Store:
    """The store that this process's environment names; links know no settings."""
    values = tuple(os.environ.get(name, "").strip() for name in _VARIABLES)

    def make() -> Store:
        made = configured(*values)
        atexit.register(made.close)
        return made

    return STORES.get(values, make)


def prepare() -> None:
    """Import before a fork what the store needs. Raises ModuleNotFoundError."""
    if os.environ.get(BUCKET_VARIABLE, "").strip():
        importlib.import_module("boto3.s3.transfer")
