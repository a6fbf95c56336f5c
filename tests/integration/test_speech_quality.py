"""A real small model: it writes nothing where nobody speaks, and knows when something was said."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from statistics import median

import pytest

from conserver.media.speech.client import SharedTranscriber
from conserver.media.speech.service_options import ServiceOptions
from conserver.media.speech.standalone import running
from conserver.media.transcription.engine import Following, Listening
from tests.integration.nonspeech import KINDS, sound
from tests.unit.media.speech.real import DATA, channels_of, english

LONG = bool(os.environ.get("CONSERVER_TEST_LONG"))
SECONDS = 360 if LONG else 60  # Of ten kinds: an hour, or ten minutes.
CALLS = ("garden", "address")


@pytest.fixture(scope="module")
def engine() -> Iterator[SharedTranscriber]:
    """A transcriber with a model that understands English."""
    with running(ServiceOptions(rows=4, lanes=1, models=(english(),))) as transcriber:
        yield SharedTranscriber([transcriber.address], english())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_no_word_is_heard_where_nobody_speaks(engine: SharedTranscriber, kind: str) -> None:
    looked_s: list[float] = []
    follow = Following(lambda: None, lambda done_s, _: looked_s.append(done_s))
    heard = engine.transcribe([sound(kind, SECONDS)], Listening(language="en"), follow)
    texts = [segment.text for segment in heard.channels[0].segments]
    given_s = max(looked_s, default=0)
    sys.stdout.write(f"{kind}: {SECONDS} s, {given_s:.0f} s of it given to the model\n")
    assert texts == []


@pytest.mark.timeout(300)
def test_the_times_of_words_are_right(engine: SharedTranscriber) -> None:
    """The first word of an utterance begins, and its last one ends, when the voice does."""
    truth = json.loads((DATA / "speech" / "truth.json").read_text())
    errors_s: list[float] = []
    for name in CALLS:
        channels = channels_of(f"speech/{name}.wav")
        heard = engine.transcribe(channels, Listening(language="en"), Following(lambda: None))
        for turn in truth[f"{name}.wav"]:
            words = [
                word
                for segment in heard.channels[turn["channel"]].segments
                for word in segment.words
                if turn["start"] - 0.5 < (word.start_s + word.end_s) / 2 < turn["end"] + 0.5
            ]
            errors_s += [abs(words[0].start_s - turn["start"]), abs(words[-1].end_s - turn["end"])]
    assert len(errors_s) == 8
    sys.stdout.write(f"median {median(errors_s):.3f} s, largest {max(errors_s):.3f} s\n")
    assert median(errors_s) < 0.1
