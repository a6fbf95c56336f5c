"""Settings of metrics."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from conserver.config.settings.part import Part, setting


class Metrics(Part):
    """The settings of metrics."""

    metrics_port: Annotated[int, Field(ge=0, le=65535)] = setting(
        "CONSERVER_METRICS_PORT", 0, "The port on which `conserver run` serves /metrics; 0: none."
    )
    metrics_host: str = setting(
        "CONSERVER_METRICS_HOST", "127.0.0.1", "The address that metrics are served on."
    )
