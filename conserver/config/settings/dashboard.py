"""Settings of the dashboard."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from conserver.config.ages import TimeText
from conserver.config.setting_types import UiPayload
from conserver.config.settings.part import Part, setting


class Dashboard(Part):
    """The settings of the dashboard."""

    ui_session_s: Annotated[int, TimeText, Field(ge=60)] = setting(
        "CONSERVER_UI_SESSION_S", 43_200, "How long a login to the dashboard lasts."
    )
    ui_label: Annotated[str, Field(max_length=40)] = setting(
        "CONSERVER_UI_LABEL", "", "What the dashboard calls this installation, such as production."
    )
    ui_payload: UiPayload = setting(
        "CONSERVER_UI_PAYLOAD",
        "operate",
        "The lowest role that sees the contents of vCons in the dashboard: `operate` or `read`.",
    )
