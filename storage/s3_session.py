"""Finds through botocore what the options of storage.s3 do not name: endpoint, region, key.

A botocore client builds and signs one request, which is not sent. Its URL and its signature contain
the endpoint, the region and the service to sign for. So profiles, variables, dual-stack and FIPS
endpoints, access points and addressing styles work as with boto3. The credentials are botocore's
own objects, which renew themselves before they expire.

Importing this module imports botocore.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import BotoCoreError, NoCredentialsError, ProfileNotFound
from botocore.session import Session
from urllib3.response import HTTPResponse

from storage.s3_http import Credentials, Key, Place

if TYPE_CHECKING:
    from storage.s3 import Options

_KEY = "conserver"
_CONNECT_TIMEOUT_S = 10.0
_SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/([^/]+)/([^/]+)/aws4_request")
# Directory buckets (S3 Express) need another kind of session, which is not supported.
_DIRECTORY_SUFFIX = "--x-s3"
_DEFAULT_REGION = "us-east-1"


def resolved(options: Options, region: str | None = None) -> Place:
    """The Place of the bucket. `region` overrides the options and the environment.

    Raises:
        PermissionError: no credentials were found.
        ValueError: botocore refuses the settings, or Conserver does not support them.
    """
    try:
        session = _session(options)
        credentials = options.credentials or _renewed(session)
        ca_file = options.ca_certs or session.get_config_variable("ca_bundle")
        region = region or options.aws_region
        if options.endpoint_url is not None and not options.aws_bucket.startswith("arn:"):
            region = region or session.get_config_variable("region") or _DEFAULT_REGION
            return options.place(region, credentials, ca_file)
        request = _request(session, options, region)
    except NoCredentialsError:
        raise PermissionError(
            "no AWS credentials in the options, environment, files, container or instance"
        ) from None
    except (BotoCoreError, ProfileNotFound) as error:
        raise ValueError(f"botocore: {error}") from None
    return _place(request, credentials, ca_file)


def _session(options: Options) -> Session:
    session = Session(profile=options.aws_profile)
    # Time limits of botocore's own requests, for temporary credentials.
    session.set_default_client_config(
        Config(
            connect_timeout=min(options.timeout_s, _CONNECT_TIMEOUT_S),
            read_timeout=options.timeout_s,
            retries={"total_max_attempts": 2},
        )
    )
    return session


def _renewed(session: Session) -> Credentials:
    """The credentials of boto3's usual search. Raises NoCredentialsError if it finds none."""
    found = session.get_credentials()
    if found is None:
        raise NoCredentialsError

    def current() -> Key:
        frozen = found.get_frozen_credentials()
        return Key(frozen.access_key or "", frozen.secret_key or "", frozen.token)

    return current


def _request(session: Session, options: Options, region: str | None) -> AWSPreparedRequest:
    """A signed request for an object of the bucket, which was not sent."""
    if options.aws_bucket.endswith(_DIRECTORY_SUFFIX):
        raise ValueError("directory buckets (S3 Express) are not supported")
    given: dict[str, Any] = {"region_name": region, "endpoint_url": options.endpoint_url}
    if options.credentials is not None:
        key = options.credentials()
        given |= {
            "aws_access_key_id": key.access_key,
            "aws_secret_access_key": key.secret_key,
            "aws_session_token": key.token,
        }
    client: Any = session.create_client("s3", **given)
    built: list[AWSPreparedRequest] = []

    def keep(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        built.append(request)
        headers: Any = {}
        return AWSResponse(
            request.url, 200, headers, HTTPResponse(io.BytesIO(), preload_content=False)
        )

    try:
        client.meta.events.register("before-send.s3", keep)
        client.head_object(Bucket=options.aws_bucket, Key=_KEY)
    finally:
        client.close()
    return built[-1]


def _place(request: AWSPreparedRequest, credentials: Credentials, ca_file: str | None) -> Place:
    authorization: Any = request.headers.get("Authorization") or b""
    if isinstance(authorization, bytes):
        authorization = authorization.decode()
    scope = _SCOPE.match(authorization)
    if scope is None:
        raise ValueError(f"requests to {urlsplit(request.url).hostname} want another signature")
    return Place(
        request.url.partition("?")[0].removesuffix(f"/{_KEY}"),
        region=scope[1],
        service=scope[2],
        credentials=credentials,
        ca_file=ca_file,
    )
