"""What vcon-server's own routes answer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from conserver.config.setting_types import EgressFormat, ExpirySeconds
from conserver.config.settings.part import Part, setting


class VconServer(Part):
    """The settings of vcon-server's routes."""

    egress_format_version: EgressFormat = setting(
        "EGRESS_FORMAT_VERSION",
        "",
        "0.0.1 lets vcon-server's routes give documents in that version's spelling.",
    )
    vcon_sorted_set_name: Annotated[str, Field(min_length=1)] = setting(
        "VCON_SORTED_SET_NAME", "vcons", "The sorted set by which vcon-server's GET /vcon lists."
    )
    vcon_index_expiry_s: ExpirySeconds = setting(
        "VCON_INDEX_EXPIRY",
        86_400,
        "How long vcon-server's routes list and find what was posted to them; 0 indexes nothing.",
    )
    vcon_server_version: str = setting(
        "VCON_SERVER_VERSION", "", "What GET /version says; empty is Conserver's own version."
    )
    vcon_server_git_commit: str = setting(
        "VCON_SERVER_GIT_COMMIT", "unknown", "The same: the commit of what runs."
    )
    vcon_server_build_time: str = setting(
        "VCON_SERVER_BUILD_TIME", "unknown", "The same: when it was built."
    )
