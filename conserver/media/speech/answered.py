"""Collects the answers to a call's windows, and finds speech that the model has skipped.

Without timestamp tokens the decoder sometimes stops after the first utterances of a window. The
times of the words then leave an utterance without any word. `Answered` puts the utterances of a
window without words into a further window, which is computed once. (With timestamp tokens, Whisper
itself continues after the last word that it recognized.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from conserver.media.speech.assembly import segments_by_channel, unheard
from conserver.media.speech.packing import Plan, speech_s
from conserver.media.speech.planning import Planning
from conserver.media.speech.windows import Answer
from conserver.media.transcription.audio import SAMPLE_RATE_HZ
from conserver.media.transcription.engine import Segment

# The voice detector found speech in a window that is computed again. If the model rates it as
# no speech with a higher probability, the answer is not used.
_NO_SPEECH_PROB_MAX = 0.6


class Answered:
    """The answers to the windows of one call.

    A window's number is its index in `Planning.known`. The window with its skipped utterances has
    the number `~number`, which is negative.
    """

    def __init__(self, planning: Planning, channel_count: int) -> None:
        self._planning = planning
        self._channel_count = channel_count
        self._answers: dict[int, Answer] = {}
        self._again: dict[int, Plan] = {}

    def take(self, number: int, answer: Answer) -> None:
        """Keep an answer."""
        if number < 0 and answer.no_speech_prob > _NO_SPEECH_PROB_MAX:
            answer = replace(answer, text="", words=())
        self._answers[number] = answer
        if number >= 0 and (rest := unheard(self._planning.known[number], answer)):
            self._again[~number] = rest

    def plan(self, number: int) -> Plan:
        """The window of this number."""
        return self._planning.known[number] if number >= 0 else self._again[number]

    @property
    def missing(self) -> Iterator[int]:
        """The known windows without an answer; those with skipped utterances come first."""
        for numbers in (self._again, range(len(self._planning.known))):
            yield from (number for number in numbers if number not in self._answers)

    @property
    def complete(self) -> bool:
        """Whether all windows are known and answered."""
        return self._planning.complete and next(self.missing, None) is None

    @property
    def done_s(self) -> float:
        """Seconds of speech in the answered windows."""
        return sum(speech_s(self.plan(number)) for number in self._answers if number >= 0)

    @property
    def until_s(self) -> float:
        """The second of the recording before which all speech is answered."""
        starts = [place.start for number in self.missing for place in self.plan(number)]
        return min([*starts, *self._planning.searched()]) / SAMPLE_RATE_HZ

    def segments(self) -> list[list[Segment]]:
        """The segments of each channel, from the answers so far."""
        numbers = sorted(self._answers)
        answers = {place: self._answers[number] for place, number in enumerate(numbers)}
        return segments_by_channel(list(map(self.plan, numbers)), answers, self._channel_count)

    def most_spoken(self, channel: int) -> str | None:
        """The language of most windows of a channel, if the language was detected per window."""
        shares: dict[str, float] = defaultdict(float)
        for number, answer in self._answers.items():
            plan = self.plan(number)
            if plan[0].channel == channel and answer.text:
                shares[answer.language] += speech_s(plan)
        return max(shares, key=shares.__getitem__) if shares else None

    def dump(self) -> dict[str, Any]:
        """The answers as plain JSON, to keep in the vCon."""
        return {str(number): answer.dump() for number, answer in self._answers.items()}

    def load(self, kept: Mapping[str, Any]) -> None:
        """Take over the answers that `dump` gave for the same plan."""
        for number in sorted(map(int, kept), reverse=True):
            if number >= 0 or number in self._again:
                self.take(number, Answer.load(kept[str(number)]))
