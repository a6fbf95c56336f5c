"""Who is on which channel, by the standard's rules and for what producers make of them."""

from __future__ import annotations

from typing import Any

import pytest

from conserver.media.transcription.speakers import Speaker, speakers_of

PARTIES: list[Any] = [
    {"name": " Ada Berg ", "tel": "+4712345678"},
    {"tel": "tel:+12025550100"},
    {"mailto": "mailto:eva@example.org", "name": ""},
    {},
    None,
]
ADA, BEN, EVA = Speaker(0, "Ada Berg"), Speaker(1, "+12025550100"), Speaker(2, "eva@example.org")


@pytest.mark.parametrize(
    ("parties", "channels", "expected"),
    [
        ([0, 1], 2, [ADA, BEN]),
        ([1, 0], 2, [BEN, ADA]),
        ([[0], 1], 2, [ADA, BEN]),
        ([0, None], 2, [ADA, Speaker("channel-1", "Channel 1")]),
        ([[0, 1], 2], 2, [Speaker("channel-0", "Ada Berg / +12025550100"), EVA]),
        ([0, 3], 2, [ADA, Speaker(3, "Party 3")]),
        ([0, 4], 2, [ADA, Speaker(4, "Party 4")]),
        ([0, 0], 2, [ADA, ADA]),
        (0, 1, [ADA]),
        ([0], 1, [ADA]),
        ([[0]], 1, [ADA]),
        ([0, 1], 1, [None]),
        ([[0, 1]], 1, [None]),
        (None, 1, [None]),
        ([9], 1, [None]),
        (None, 2, [Speaker("channel-0", "Channel 0"), Speaker("channel-1", "Channel 1")]),
    ],
)  # fmt: skip
def test_channels_are_assigned(parties: Any, channels: int, expected: list[Speaker | None]) -> None:
    dialog = {} if parties is None else {"parties": parties}
    assert speakers_of(dialog, PARTIES, channels) == (expected, [])


def test_lists_that_do_not_fit_name_nobody_and_warn() -> None:
    speakers, warnings = speakers_of({"parties": [0, 1, 2]}, PARTIES, 2)
    assert speakers == [Speaker("channel-0", "Channel 0"), Speaker("channel-1", "Channel 1")]
    assert warnings == [
        "the dialog names 3 parties for 2 channels: channels are not assigned to parties"
    ]


def test_a_party_that_is_not_there_is_told() -> None:
    speakers, warnings = speakers_of({"parties": [0, 7]}, PARTIES, 2)
    assert speakers == [ADA, Speaker("channel-1", "Channel 1")]
    assert warnings == ["channel 1 names party 7, which the vCon lacks"]


@pytest.mark.parametrize("nonsense", ["0", {"0": 1}, True, 1.5])
def test_nonsense_names_nobody(nonsense: Any) -> None:
    speakers, _ = speakers_of({"parties": nonsense}, PARTIES, 2)
    assert [speaker.id for speaker in speakers if speaker] == ["channel-0", "channel-1"]
