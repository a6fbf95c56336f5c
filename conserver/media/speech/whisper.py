"""Computes batches of windows with a Whisper model in CTranslate2.

1. `encode` returns the encoder's output of each window, in memory of the host. Later batches of the
   same window (at the next temperature, or once the language is known) use this output again.
2. `generate` decodes without timestamp tokens: in batches they cost more than everything else, and
   make the text worse. `words` gets the times by CTranslate2's `align`.
3. `is_sane` compares the tokens of a fixed input with those of the first time (the canary).

Every method asserts that there is one prompt per row, because CTranslate2 does not check this and
would read beyond its results. At most `workers` threads may call methods at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conserver.media.speech.turns import EncoderTurns
from conserver.media.speech.vocabulary import vocabulary_of
from conserver.media.speech.windows import (
    FRAMES_PER_S,
    Answer,
    ModelInfo,
    WindowOptions,
    WindowWord,
)
from conserver.media.transcription import whisper
from conserver.media.transcription.engine import Model
from conserver.media.transcription.in_process import is_out_of_memory
from conserver.process import memory

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Encoded = npt.NDArray[np.float32]
    Mel = npt.NDArray[np.float16]

# Whisper's own thresholds. Text with a higher compression ratio repeats itself. Text with a lower
# log probability per token is doubtful; if the no-speech probability is also higher, it is dropped.
COMPRESSION_RATIO_MAX = 2.4
AVG_LOGPROB_MIN = -1.0
NO_SPEECH_PROB_MAX = 0.6

_BEST_OF = 5  # Hypotheses of a row at a temperature above 0.
_TOKENS_MAX = 448
_LANGUAGES_TOLD = 5
_PROMPTS_MAX = 1000
_CANARY_TOKENS = 24
_CANARY_WRONG_MAX = 6  # Half precision may change a few tokens; a broken device changes all.
_PREPENDED = "\"'“¿([{-"
_APPENDED = "\"'.。,，!！?？:：”)]}、"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One decoding of a window."""

    tokens: tuple[int, ...]
    text: str
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    temperature: float

    @property
    def repeats(self) -> bool:
        """Whether the text repeats itself."""
        return self.compression_ratio > COMPRESSION_RATIO_MAX

    @property
    def silent(self) -> bool:
        """Whether the model probably invented the text, because nobody spoke."""
        return self.no_speech_prob > NO_SPEECH_PROB_MAX and self.avg_logprob < AVG_LOGPROB_MIN

    @property
    def good(self) -> bool:
        """Whether no further temperature has to be tried."""
        return self.silent or not (self.repeats or self.avg_logprob < AVG_LOGPROB_MIN)


def best(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate to use: the last if it is good, else the most likely one that does not repeat
    itself.
    """
    if candidates[-1].good:
        return candidates[-1]
    plain = [one for one in candidates if not one.repeats]
    return max(plain or candidates, key=lambda one: one.avg_logprob)


class WhisperBatches:
    """A loaded model that computes batches."""

    def __init__(self, model: Model, *, workers: int, threads: int, ahead: int) -> None:
        """Load the model and warm it up. On a GPU newer than the library this may take minutes.

        Args:
            workers: how many lanes will call it at once.
            threads: CPU threads for each lane.
            ahead: for `ModelInfo`.

        Raises:
            Retry: the model cannot be loaded now.
        """
        loaded, identity = whisper.load(model, threads=threads, workers=workers)
        self.model = loaded.model
        """CTranslate2's Whisper."""
        self._suppressed = _suppressed(loaded.hf_tokenizer)
        self._tokens = vocabulary_of(loaded.hf_tokenizer)
        self._tokenizers: dict[tuple[str, bool], Any] = {}
        self._prompts: dict[tuple[str | None, str | None], list[int]] = {}
        extractor = loaded.feature_extractor
        self.frames = int(extractor.nb_max_frames)
        self.bands = int(self.model.n_mels)
        self._on_gpu = identity.device == "cuda"
        # On a CPU, batches do not speed up the encoder, but they need more memory.
        self._encode_rows = 8 if self._on_gpu else 1
        self._turns = EncoderTurns(workers)
        self._canary: list[int] = []
        with whisper.loading_errors(model):
            aligns = self._warm_up()
        languages = tuple(loaded.supported_languages)
        self.info = ModelInfo(identity, self.bands, self.frames, languages, aligns, ahead)

    def _warm_up(self) -> bool:
        """Compute each step once. Returns whether the times of words can be computed."""
        encoded = self.encode([self._noise()])
        options = WindowOptions(language="en", words=False)
        self.generate(encoded, ["en"], options, 0.0)
        self._canary = self._sing(encoded)
        try:
            self.words(encoded, ["en"], [self._canary[:4]], [self.frames])
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            return False  # On some GPUs and versions of the library only `align` fails.
        return True

    def encode(self, mels: Sequence[Mel]) -> list[Encoded]:
        """The encoder's output for windows of at most `frames` frames each.

        Waits for the lane's turn to encode (turns.py), unless there are no windows.
        """
        if not mels:
            return []
        with self._turns.encoding():
            encoded = self._encode(mels)
            self._trim()
        return encoded

    def _trim(self) -> None:
        """Let other lanes use the memory that this one has freed. A GPU's lane frees hardly any."""
        if not self._on_gpu:
            memory.trim_heap()

    def _encode(self, mels: Sequence[Mel]) -> list[Encoded]:
        import ctranslate2
        import numpy as np

        rows: list[Encoded] = []
        kind = np.float16 if self._on_gpu else np.float32
        for first in range(0, len(mels), self._encode_rows):
            some = mels[first : first + self._encode_rows]
            batch = np.zeros((len(some), self.bands, self.frames), dtype=kind)
            for row, mel in zip(batch, some, strict=True):
                row[:, : mel.shape[1]] = mel
            view = ctranslate2.StorageView.from_array(batch)
            output = self.model.encode(view, to_cpu=self._on_gpu)
            if "bfloat16" in str(output.dtype):
                output = output.to(ctranslate2.DataType.float32)
            rows += list(np.array(output))
        return rows

    def languages(self, encoded: Sequence[Encoded]) -> list[list[tuple[str, float]]]:
        """The likely languages of each window, with their probabilities, the likeliest first."""
        found = self.model.detect_language(self._together(encoded))
        assert len(found) == len(encoded)
        return [
            [(token.strip("<|>"), float(share)) for token, share in one[:_LANGUAGES_TOLD]]
            for one in found
        ]

    def generate(
        self,
        encoded: Sequence[Encoded],
        languages: Sequence[str],
        options: WindowOptions,
        temperature: float,
    ) -> list[Candidate]:
        """Decode windows, each in its language. All windows have the same `options`."""
        assert len(languages) == len(encoded)
        before = self._before(options.prompt, options.hotwords)
        prompts = []
        for language in languages:
            tokenizer = self._tokenizer(language, options.translate)
            prompts.append([*before, *tokenizer.sot_sequence, tokenizer.no_timestamps])
        if temperature > 0:
            how = {
                "beam_size": 1,
                "num_hypotheses": _BEST_OF,
                "sampling_topk": 0,
                "sampling_temperature": temperature,
            }
        else:
            how = {"beam_size": options.beam_size}
        with self._turns.decoding():
            # The library copies its input. So ours is free while it computes: 2 MB of each row.
            pending = self.model.generate(
                self._together(encoded),
                prompts,
                asynchronous=True,
                max_length=_TOKENS_MAX,
                return_scores=True,
                return_no_speech_prob=True,
                suppress_tokens=self._suppressed,
                **how,
            )
            results = [one.result() for one in pending]
            self._trim()
        assert len(results) == len(encoded)
        return [self._candidate(result, temperature) for result in results]

    def _candidate(self, result: Any, temperature: float) -> Candidate:
        from faster_whisper.transcribe import get_compression_ratio

        tokens = result.sequences_ids[0]
        text = self._tokenizer("en", False).decode(tokens).strip()
        return Candidate(
            tokens=tuple(tokens),
            text=text,
            avg_logprob=result.scores[0] * len(tokens) / (len(tokens) + 1),
            no_speech_prob=float(result.no_speech_prob),
            compression_ratio=get_compression_ratio(text),
            temperature=temperature,
        )

    def words(
        self,
        encoded: Sequence[Encoded],
        languages: Sequence[str],
        tokens: Sequence[Sequence[int]],
        frames: Sequence[int],
        *,
        translate: bool = False,
    ) -> list[tuple[WindowWord, ...]]:
        """The words of windows, with times. frames: how many frames of each window are sound."""
        assert len(encoded) == len(languages) == len(tokens) == len(frames)
        found: list[tuple[WindowWord, ...]] = [()] * len(encoded)
        for language in sorted(set(languages)):
            tokenizer = self._tokenizer(language, translate)
            texts = [[token for token in row if token < tokenizer.eot] for row in tokens]
            rows = [
                row for row, spoken in enumerate(languages) if spoken == language and texts[row]
            ]
            if not rows:
                continue
            with self._turns.decoding():
                results = self.model.align(
                    self._together([encoded[row] for row in rows]),
                    tokenizer.sot_sequence,
                    [texts[row] for row in rows],
                    [max(2, min(frames[row], self.frames)) for row in rows],
                )
            assert len(results) == len(rows)
            for row, result in zip(rows, results, strict=True):
                found[row] = _timed(tokenizer, texts[row], result, frames[row] / FRAMES_PER_S)
        return found

    def answer(
        self, candidate: Candidate, language: str, words: tuple[WindowWord, ...], *, translate: bool
    ) -> Answer:
        """The answer for a window."""
        silent = candidate.silent
        return Answer(
            text="" if silent else candidate.text,
            language="en" if translate else language,
            words=() if silent else words,
            avg_logprob=float(candidate.avg_logprob),
            no_speech_prob=candidate.no_speech_prob,
            compression_ratio=float(candidate.compression_ratio),
            temperature=candidate.temperature,
        )

    @property
    def multilingual(self) -> bool:
        """Whether the model knows other languages than English."""
        return bool(self.model.is_multilingual)

    def is_sane(self) -> bool:
        """Whether a fixed input still gives nearly the same tokens as at first (the canary)."""
        tokens = self._sing(self.encode([self._noise()]))
        wrong = sum(a != b for a, b in zip(tokens, self._canary, strict=False))
        return wrong + abs(len(tokens) - len(self._canary)) <= _CANARY_WRONG_MAX

    def _sing(self, encoded: Sequence[Encoded]) -> list[int]:
        """The most likely tokens of the canary's input; the end token is suppressed."""
        tokenizer = self._tokenizer("en", False)
        prompt = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
        result = self.model.generate(
            self._together(encoded),
            [prompt],
            beam_size=1,
            max_length=2 * _CANARY_TOKENS,
            suppress_tokens=[*self._suppressed, tokenizer.eot],
        )
        return list(result[0].sequences_ids[0])

    def _noise(self) -> Mel:
        """The canary's input: the spectrogram of always the same noise."""
        import numpy as np

        # numpy.random would stay for it, with 2 MB.
        numbers = np.arange(self.bands * self.frames).reshape(self.bands, self.frames)
        noise = np.modf(np.sin(numbers * 12.9898) * 43758.5453)[0]
        drawn: Mel = (noise + 0.5).astype(np.float16)
        return drawn

    def _together(self, encoded: Sequence[Encoded]) -> Any:
        import ctranslate2
        import numpy as np

        return ctranslate2.StorageView.from_array(np.stack(encoded))

    def _tokenizer(self, language: str, translate: bool) -> Any:
        from faster_whisper.tokenizer import Tokenizer

        key = (language, translate) if self.multilingual else ("en", False)
        if key not in self._tokenizers:
            self._tokenizers[key] = Tokenizer(
                self._tokens,
                self.multilingual,
                task="translate" if key[1] else "transcribe",
                language=key[0],
            )
        return self._tokenizers[key]

    def _before(self, prompt: str | None, hotwords: str | None) -> list[int]:
        """The tokens before the start token: hotwords, then the prompt."""
        if (prompt, hotwords) not in self._prompts:
            if len(self._prompts) >= _PROMPTS_MAX:  # Each caller may have another prompt.
                self._prompts.clear()
            tokenizer = self._tokenizer("en", False)
            tokens: list[int] = []
            most = _TOKENS_MAX // 2 - 1
            if hotwords:
                tokens += tokenizer.encode(f" {hotwords.strip()}")[:most]
            if prompt and len(tokens) < most:
                tokens += tokenizer.encode(f" {prompt.strip()}")[len(tokens) - most :]
            self._prompts[prompt, hotwords] = [tokenizer.sot_prev, *tokens] if tokens else []
        return self._prompts[prompt, hotwords]


def _suppressed(tokenizer: Any) -> list[int]:
    """The tokens of what is not speech. To know them it encodes: it needs the full tokenizer."""
    from faster_whisper.tokenizer import Tokenizer
    from faster_whisper.transcribe import get_suppressed_tokens

    # They are the same for every language and task.
    return list(get_suppressed_tokens(Tokenizer(tokenizer, multilingual=False), [-1]))


def _timed(
    tokenizer: Any, tokens: Sequence[int], result: Any, length_s: float
) -> tuple[WindowWord, ...]:
    """Words of one row of `align`: tokens to words, frames to seconds."""
    import numpy as np
    from faster_whisper.transcribe import merge_punctuations

    texts, groups = tokenizer.split_to_word_tokens([*tokens, tokenizer.eot])
    if len(groups) <= 1 or not result.alignments:
        return ()
    bounds = np.pad(np.cumsum([len(group) for group in groups[:-1]]), (1, 0))
    pairs = np.array(result.alignments)
    jumps = np.pad(np.diff(pairs[:, 0]), (1, 0), constant_values=1).astype(bool)
    times_s = pairs[jumps, 1] / (FRAMES_PER_S / 2)  # The encoder halves the frames.
    shares = result.text_token_probs
    alignment = [
        {
            "word": text,
            "tokens": group,
            "start": float(times_s[first]),
            "end": float(times_s[last]),
            "probability": float(np.mean(shares[first:last])),
        }
        for text, group, first, last in zip(texts, groups, bounds[:-1], bounds[1:], strict=False)
    ]
    merge_punctuations(alignment, _PREPENDED, _APPENDED)
    return tuple(
        WindowWord(
            round(min(one["start"], length_s), 3),
            round(min(one["end"], length_s), 3),
            one["word"],
            round(one["probability"], 4),
        )
        for one in alignment
        if one["word"]
    )
