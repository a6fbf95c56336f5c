"""A recording that goes from a caller to a bucket and from there to a worker, past the API."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from tests.clients import S3Access, http_client
from tests.daemon import Daemon
from tests.helpers import free_port
from tests.process.test_audio import CONFIG, TEXT, long_call


@pytest.mark.slow
def test_a_worker_fetches_what_a_caller_put_into_the_bucket(
    tmp_path: Path, redis_url: str, s3: S3Access, s3_bucket: str
) -> None:
    environment = {
        "CONSERVER_API_PORT": str(free_port()),
        "CONSERVER_INLINE_BYTES": "1000",
        "CONSERVER_UPLOAD_BUCKET": s3_bucket,
        "CONSERVER_UPLOAD_ENDPOINT_URL": s3.endpoint,
        "AWS_ACCESS_KEY_ID": s3.key,
        "AWS_SECRET_ACCESS_KEY": s3.secret,
        "AWS_DEFAULT_REGION": s3.region,
    }
    name, content = long_call(2)
    with ExitStack() as stack:
        bucket = stack.enter_context(closing(s3.client()))
        bucket.create_bucket(Bucket=s3_bucket)
        daemon = stack.enter_context(
            Daemon(tmp_path / "host", redis_url, CONFIG, workers=1, **environment)
        )
        url = f"http://127.0.0.1:{environment['CONSERVER_API_PORT']}"
        web = stack.enter_context(http_client(url, timeout=60))
        daemon.event("api_listens", 60)
        announced = {"bytes": len(content), "filename": name, "mediatype": "audio/wav"}
        offer = web.post("/v1/uploads", json=announced).json()
        assert httpx.put(offer["url"], content=content, timeout=60).status_code == 200
        body = {"list": "calls", "upload": offer["upload_id"]}
        job = web.post("/v1/jobs", json=body).json()
        own = f"/v1/jobs/{job['id']}"
        daemon.until(lambda: web.get(own, params={"wait": 20}).json()["status"] == "completed")
        result = web.get(f"{own}/result", params={"format": "json"}).json()
        assert result["text"] == f"{TEXT} {TEXT}"
        kept = {entry["Key"] for entry in bucket.list_objects_v2(Bucket=s3_bucket)["Contents"]}
        assert kept == {offer["upload_id"], f"{offer['upload_id']}.json"}
        assert not (daemon.folder / "uploads").exists(), "it went past the API"
        assert daemon.stop() == 0
