"""Forms: what a caller and the operator are told if the store of uploads fails."""

from __future__ import annotations

import errno

from structlog.testing import capture_logs

from conserver.http.api.multipart import store_failed
from conserver.outbound.uploads import StoreError


def test_a_full_disk_is_logged_for_the_operator() -> None:
    with capture_logs() as logged:
        told = store_failed(OSError(errno.ENOSPC, "No space left on device", "/data/uploads/.a1"))
        assert store_failed(StoreError(errno.EIO, "the bucket is away")).status == 503
    assert told.status == 507
    assert "/data" not in told.detail
    (line,) = logged  # The store of a bucket logs its own failures.
    assert (line["event"], line["log_level"]) == ("upload_folder_failed", "warning")
    assert "No space left on device: '/data/uploads/.a1'" in line["error"]
