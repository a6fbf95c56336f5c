"""A model's tokens and their texts, in a tenth of the memory of a tokenizer that encodes.

A transcriber decodes tokens all the time, and encodes only prompts and hotwords. For Whisper's
vocabulary the tokenizer has 12 MB; what decoding needs of it is half a megabyte of bytes.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer


def vocabulary_of(tokenizer: Tokenizer) -> Any:
    """The vocabulary of a tokenizer; the tokenizer itself if its tokens do not stand for bytes."""
    from tokenizers import decoders

    return Vocabulary(tokenizer) if isinstance(tokenizer.decoder, decoders.ByteLevel) else tokenizer


class Vocabulary:
    """The part of `tokenizers.Tokenizer` that faster-whisper's Tokenizer uses, with its results.

    Only for tokens that stand for bytes (`decoders.ByteLevel`), as those of all Whisper models do.
    Safe to use from several threads.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """
        Args:
            tokenizer: whose vocabulary it is; it is not kept.
        """
        added = tokenizer.get_added_tokens_decoder()
        # Some converted models have `<|en|>` and its like among the plain tokens.
        marks = tokenizer.get_vocab(with_added_tokens=False).items()
        self._ids = {token: number for token, number in marks if _is_mark(token)}
        self._ids |= {token.content: number for number, token in added.items()}
        special = {number for number, token in added.items() if token.special}
        meaning = _bytes_by_character()
        pieces = [
            b"" if number in special else _bytes_of(tokenizer.id_to_token(number) or "", meaning)
            for number in range(max(tokenizer.get_vocab_size(), *added, 0) + 1)
        ]
        self._ends = array("I", [0, *accumulate(map(len, pieces))])
        self._bytes = b"".join(pieces)
        self._packed = zlib.compress(tokenizer.to_str().encode())
        self._tokenizer: Tokenizer | None = None

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without the special ones."""
        ends, last = self._ends, len(self._ends) - 1
        parts = (self._bytes[ends[one] : ends[one + 1]] for one in tokens if one < last)
        return b"".join(parts).decode(errors="replace")

    def token_to_id(self, token: str) -> int | None:
        """The number of a token that stands for no text, such as "<|en|>"."""
        return self._ids.get(token)

    def encode(self, text: str, *, add_special_tokens: bool) -> Encoding:
        """A text as tokens. From the first one on, the tokenizer is there after all."""
        if self._tokenizer is None:
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_str(zlib.decompress(self._packed).decode())
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens)


def _is_mark(token: str) -> bool:
    return token.startswith("<|") and token.endswith("|>")


def _bytes_of(token: str, meaning: dict[str, int]) -> bytes:
    try:
        return bytes([meaning[character] for character in token])
    except KeyError:
        return token.encode()


def _bytes_by_character() -> dict[str, int]:
    """The byte that each character of a token stands for.

    Printable bytes stand for themselves, the others are shown by the characters from U+0100 on.

    Source: bytes_to_unicode in https://github.com/openai/gpt-2, src/encoder.py.
    """
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {
        chr(256 + number): byte for number, byte in enumerate(others)
    }
