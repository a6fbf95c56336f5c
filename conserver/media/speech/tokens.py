"""Makes words of a model's tokens: pieces of words and punctuation, each with its start time."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from conserver.media.speech.windows import WindowWord

_LAST_TOKEN_S = 0.24  # The length of a word's last token, unless the next word begins earlier.
_OPENING = "¿¡([{«\"'“‘-"  # Marks that belong to the word after them.
# Scripts without spaces: each character is treated as a word.
_ALONE = re.compile("[\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of text; a leading space begins a word. `start_s` counts from the window's start."""

    text: str
    start_s: float
    logprob: float

    @property
    def spoken(self) -> bool:
        """Whether it has letters or digits."""
        return any(map(str.isalnum, self.text))


def words_of(tokens: Sequence[Token], length_s: float) -> tuple[WindowWord, ...]:
    """The words of a window, each with the space before it and the punctuation after it.

    Args:
        length_s: of the window.
    """
    groups: list[list[Token]] = []
    for token in tokens:
        if not groups or _begins(token, groups[-1][-1]):
            groups.append([])
        groups[-1].append(token)
    words: list[list[Token]] = []
    for group in groups:
        if words and not any(token.spoken for token in group):
            words[-1] += group  # Punctuation with a leading space.
        else:
            words.append(group)
    if not words:
        return ()
    # A model may place a full stop long after its word, so times come only from spoken tokens.
    spoken = [[token for token in word if token.spoken] or word for word in words]
    nexts_s = [*(word[0].start_s for word in spoken[1:]), length_s]
    return tuple(
        _word(word, heard, min(next_s, length_s))
        for word, heard, next_s in zip(words, spoken, nexts_s, strict=True)
        if any(token.text.strip() for token in word)
    )


def _begins(token: Token, before: Token) -> bool:
    """Whether a word begins with this token."""
    if before.text.isspace():
        return False
    if token.text.isspace():
        return True
    if not token.spoken:
        return token.text[0].isspace() and token.text.strip()[0] in _OPENING
    return token.text[0].isspace() or bool(_ALONE.match(token.text) or _ALONE.match(before.text))


def _word(tokens: Sequence[Token], heard: Sequence[Token], end_s: float) -> WindowWord:
    text = "".join("".join(token.text for token in tokens).split())
    start_s = min(heard[0].start_s, end_s)
    score = sum(token.logprob for token in tokens) / len(tokens)
    return WindowWord(
        round(start_s, 3),
        round(min(heard[-1].start_s + _LAST_TOKEN_S, end_s), 3),
        text if _ALONE.match(text) else f" {text}",
        round(math.exp(min(0.0, score)), 4),
    )
