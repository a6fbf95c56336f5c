"""Settings of the routes that vcon-server has, too."""

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
        "With 0.0.1 vcon-server's routes answer documents in that version's spelling.",
    )
    vcon_sorted_set_name: Annotated[str, Field(min_length=1)] = setting(
        "VCON_SORTED_SET_NAME", "vcons", "The sorted set from which GET /vcon lists uuids."
    )
    vcon_index_expiry_s: ExpirySeconds = setting(
        "VCON_INDEX_EXPIRY",
        86_400,
        "How long vcon-server's routes list and find a posted vCon; 0 indexes nothing.",
    )
    vcon_server_version: str = setting(
        "VCON_SERVER_VERSION", "", "The version that GET /version answers; empty: Conserver's own."
    )
    vcon_server_git_commit: str = setting(
        "VCON_SERVER_GIT_COMMIT", "unknown", "The commit that GET /version answers."
    )
    vcon_server_build_time: str = setting(
        "VCON_SERVER_BUILD_TIME", "unknown", "The build time that GET /version answers."
    )
