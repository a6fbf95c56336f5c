"""Who speaks on which channel of a recording.

The standard's rule: a recording of several channels has `parties` of that length, entry i is the
party on channel i, a list of parties if several share it, or null if it is unused. A mono recording
may name several parties without saying who speaks when; then nobody is named. Where the lists do
not fit, channels stay apart under names of their own, and a warning says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from conserver.vcon.document import indices

_SCHEMES = ("tel:", "sip:", "sips:", "mailto:")


@dataclass(frozen=True, slots=True)
class Speaker:
    """A voice: the party's index, or a name for the channel; and what to call it in text."""

    id: int | str
    label: str


def speakers_of(
    dialog: dict[str, Any], parties: list[Any], channel_count: int
) -> tuple[list[Speaker | None], list[str]]:
    """The speaker of each of a dialog's channels, None where one channel holds several unnamed.

    Returns:
        One entry per channel, and warnings about what does not fit together.
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
