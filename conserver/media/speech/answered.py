"""What is answered of a call's windows, and what was heard by that.

A decoder without timestamp tokens sometimes ends after the first utterances of a window, as if
nothing came after them. The times of the words show it: `Answered` has every utterance of a window
in which no word was found heard a second time, in a window of such utterances alone. With timestamp
tokens Whisper does the same: it goes on behind the last word that it understood.
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

# Where nothing was heard the first time the model must not doubt the second time that it is speech.
_NO_SPEECH_PROB_MAX = 0.6


class Answered:
    """The answers to the windows of one call.

    A window has its number in `Planning.known`; what is heard again of it has `~number`, which is
    below zero.
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
        """The windows that are known and not answered; first those that are heard again."""
        for numbers in (self._again, range(len(self._planning.known))):
            yield from (number for number in numbers if number not in self._answers)

    @property
    def complete(self) -> bool:
        """Whether all is known and answered."""
        return self._planning.complete and next(self.missing, None) is None

    @property
    def done_s(self) -> float:
        """Seconds of speech in the windows that are answered."""
        return sum(speech_s(self.plan(number)) for number in self._answers if number >= 0)

    @property
    def until_s(self) -> float:
        """The second of the recording before which nothing is missing, of a call in the middle."""
        starts = [place.start for number in self.missing for place in self.plan(number)]
        return min([*starts, *self._planning.searched()]) / SAMPLE_RATE_HZ

    def segments(self) -> list[list[Segment]]:
        """The segments of each channel, as far as there are answers."""
        numbers = sorted(self._answers)
        answers = {place: self._answers[number] for place, number in enumerate(numbers)}
        return segments_by_channel(list(map(self.plan, numbers)), answers, self._channel_count)

    def most_spoken(self, channel: int) -> str | None:
        """The language of most of a channel's windows, where each had its own."""
        shares: dict[str, float] = defaultdict(float)
        for number, answer in self._answers.items():
            plan = self.plan(number)
            if plan[0].channel == channel and answer.text:
                shares[answer.language] += speech_s(plan)
        return max(shares, key=shares.__getitem__) if shares else None

    def dump(self) -> dict[str, Any]:
        """For what a vCon keeps on the way."""
        return {str(number): answer.dump() for number, answer in self._answers.items()}

    def load(self, kept: Mapping[str, Any]) -> None:
        """From what was kept of the same plan."""
        for number in sorted(map(int, kept), reverse=True):
            if number >= 0 or number in self._again:
                self.take(number, Answer.load(kept[str(number)]))
