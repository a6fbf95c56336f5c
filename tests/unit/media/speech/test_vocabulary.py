"""A vocabulary decodes as the tokenizer does, and encodes by it."""

from __future__ import annotations

import random
from functools import cache

import tokenizers
from faster_whisper.tokenizer import Tokenizer

from conserver.media.speech.vocabulary import Vocabulary, vocabulary_of
from tests.unit.media.speech.real import DATA

WORDS = ["<|en|>", "<|endoftext|>", "<|notimestamps|>", "<|0.00|>", "<|unknown|>"]


@cache
def both() -> tuple[tokenizers.Tokenizer, Vocabulary]:
    tokenizer = tokenizers.Tokenizer.from_file(str(DATA / "tiny-whisper" / "tokenizer.json"))
    return tokenizer, Vocabulary(tokenizer)


def test_every_token_has_the_same_text() -> None:
    tokenizer, vocabulary = both()
    for number in range(tokenizer.get_vocab_size() + 5):
        assert vocabulary.decode([number]) == tokenizer.decode([number]), number


def test_tokens_together_have_the_same_text_even_where_bytes_are_no_character() -> None:
    tokenizer, vocabulary = both()
    draw = random.Random(20261130)
    broken = 0
    for _ in range(2000):
        some = draw.choices(range(tokenizer.get_vocab_size()), k=draw.randrange(12))
        text = vocabulary.decode(some)
        assert text == tokenizer.decode(some), some
        broken += "\N{REPLACEMENT CHARACTER}" in text
    assert broken


def test_added_tokens_are_found() -> None:
    tokenizer, vocabulary = both()
    for word in WORDS:
        assert vocabulary.token_to_id(word) == tokenizer.token_to_id(word)


def test_marks_among_the_plain_tokens_are_found() -> None:
    """As converters of models leave them."""
    letters = {"a": 0, "<|en|>": 1, "<|transcribe|>": 2}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(letters, []))
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    vocabulary = Vocabulary(tokenizer)
    assert [vocabulary.token_to_id(word) for word in letters] == [None, 1, 2]


def test_texts_are_encoded_by_the_tokenizer() -> None:
    tokenizer, vocabulary = both()
    for text in ("Hello there", " naïve café", ""):
        expected = tokenizer.encode(text, add_special_tokens=False).ids
        assert vocabulary.encode(text, add_special_tokens=False).ids == expected


def test_it_is_all_that_faster_whispers_tokenizer_needs() -> None:
    tokenizer, vocabulary = both()
    theirs, ours = (
        Tokenizer(one, multilingual=True, task="transcribe", language="en")
        for one in (tokenizer, vocabulary)
    )
    tokens = theirs.encode(" one two, three")
    assert ours.encode(" one two, three") == tokens
    assert ours.sot_sequence == theirs.sot_sequence
    assert ours.no_timestamps == theirs.no_timestamps
    ended = [*tokens, theirs.eot]
    assert ours.split_to_word_tokens(ended) == theirs.split_to_word_tokens(ended)


def test_a_tokenizer_whose_tokens_are_no_bytes_is_kept() -> None:
    other = tokenizers.Tokenizer(tokenizers.models.WordLevel({"word": 0}, unk_token="word"))
    assert vocabulary_of(other) is other
    assert isinstance(vocabulary_of(both()[0]), Vocabulary)
