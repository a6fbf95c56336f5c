"""Settings of uploaded recordings: their place, their largest size and their expiry."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from conserver.config.ages import TimeText
from conserver.config.setting_types import Bytes, ExpirySeconds, UploadBucket, WebOrigin
from conserver.config.settings.part import Part, setting


class Uploads(Part):
    """The settings of uploads."""

    upload_dir: str = setting(
        "CONSERVER_UPLOAD_DIR",
        "./uploads",
        "The folder for uploaded recordings; API and workers share it.",
    )
    upload_bucket: UploadBucket = setting(
        "CONSERVER_UPLOAD_BUCKET",
        "",
        "A bucket instead of the folder, as `name` or `name/prefix`; boto3 finds the access key.",
    )
    upload_endpoint_url: WebOrigin = setting(
        "CONSERVER_UPLOAD_ENDPOINT_URL", "", "The URL of the bucket's S3 server if it is not AWS."
    )
    upload_public_url: WebOrigin = setting(
        "CONSERVER_UPLOAD_PUBLIC_URL",
        "",
        "The URL of the same server for callers, for presigned URLs.",
    )
    upload_offer_s: Annotated[int, TimeText, Field(ge=1, le=604_800)] = setting(
        "CONSERVER_UPLOAD_OFFER_S", 86_400, "How long an announced upload may take to arrive."
    )
    upload_max_bytes: Bytes = setting(
        "CONSERVER_UPLOAD_MAX_BYTES", 2 << 30, "A larger upload is refused."
    )
    upload_expiry_s: ExpirySeconds = setting(
        "CONSERVER_UPLOAD_EXPIRY_S",
        604_800,
        "How long an upload is kept; the vCon keeps the upload's hash. 0 is forever.",
    )
    inline_bytes: Bytes = setting(
        "CONSERVER_INLINE_BYTES",
        1 << 20,
        "A recording up to this size becomes a part of its vCon; a larger one stays an upload.",
    )
