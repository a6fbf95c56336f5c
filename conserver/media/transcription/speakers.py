"""Assigns the channels of a recording to parties.

In the vCon standard, `parties` of a recording with several channels has one entry per channel: the
index of a party, a list of indices if several parties share the channel, or null for an unused
channel. A mono recording may list several parties without saying who speaks when; then no speaker
is assigned. If the numbers of entries and channels differ, the speakers are named after the
channels, and the result has a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from conserver.vcon.document import indices

_SCHEMES = ("tel:", "sip:", "sips:", "mailto:")


@dataclass(frozen=True, slots=True)
class Speaker:
    """A speaker: the index of a party or the name of a channel, and a label for texts."""

    id: int | str
    label: str


def speakers_of(
    dialog: dict[str, Any], parties: list[Any], channel_count: int
) -> tuple[list[Speaker | None], list[str]]:
    """Find the speaker of each channel of a dialog.

    Returns:
        One entry per channel, None for a mono channel of several parties; and warnings about
        entries that do not match.
    """
    named = dialog.get("parties")
    warnings: list[str] = []
    if channel_count == 1:
        present = [index for index in indices(named) if _exists(index, parties)]
        single = present[0] if len(set(present)) == 1 else None
        return [_party(single, parties) if single is not None else None], warnings
    entries = named if isinstance(named, list) else []
    if len(entries) != channel_count:
        if named is not None:
            warnings.append(
                f"the dialog names {len(indices(named))} parties for {channel_count} channels: "
                "channels are not assigned to parties"
            )
        entries = [None] * channel_count
    speakers: list[Speaker | None] = []
    for channel, entry in enumerate(entries):
        on_channel = indices(entry)
        unknown = [index for index in on_channel if not _exists(index, parties)]
        if unknown:
            warnings.append(f"channel {channel} names party {unknown[0]}, which the vCon lacks")
        if len(on_channel) == 1 and not unknown:
            speakers.append(_party(on_channel[0], parties))
        else:
            labels = [_label(index, parties) for index in on_channel if _exists(index, parties)]
            label = " / ".join(labels) or f"Channel {channel}"
            speakers.append(Speaker(f"channel-{channel}", label))
    return speakers, warnings


def _exists(index: int, parties: list[Any]) -> bool:
    return 0 <= index < len(parties)


def _party(index: int, parties: list[Any]) -> Speaker:
    return Speaker(index, _label(index, parties))


def _label(index: int, parties: list[Any]) -> str:
    party = parties[index] if isinstance(parties[index], dict) else {}
    for member in ("name", "tel", "sip", "mailto"):
        text = party.get(member)
        if isinstance(text, str) and text.strip():
            text = text.strip()
            scheme = next((s for s in _SCHEMES if text.lower().startswith(s)), "")
            return text[len(scheme) :]
    return f"Party {index}"
