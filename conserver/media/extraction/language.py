"""Finds the language of a page: the declared one, unless the text clearly has another.

A script that only one language uses decides; otherwise the most frequent words decide. Short and
mixed texts are "und", which is BCP 47 for an undetermined language.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_UNKNOWN = "und"
_TAG = re.compile(r"[a-z]{2,3}(-[a-z0-9]{1,8})*", re.IGNORECASE)
_LETTERS_MAX = 4000
_WORDS_MIN = 3
# A script decides with this share of the letters.
_SHARE = 0.5
# Names of characters begin with their script's name.
_SCRIPTS = {
    "GREEK": "el",
    "HANGUL": "ko",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HEBREW": "he",
    "THAI": "th",
    "CJK": "zh",
    "ARABIC": "und-Arab",
    "CYRILLIC": "und-Cyrl",
    "DEVANAGARI": "und-Deva",
}
_WORDS = {
    "en": "the of and to in is that for with this are be not by it as was on have from at",
    "de": "der die und das den von zu mit sich des auf für ist im dem nicht ein eine wird sind",
    "fr": "le la les des et est dans une pour que qui sur par avec ce pas sont au du cette",
    "es": "el los las y en que del por con una para es se al lo como más su este son",
    "it": "il di che e la per un è con non sono della del una nel gli dei alla si questo",
    "nl": "de het een van en in is dat op te zijn voor met niet aan er bij worden deze ook",
    "pt": "o os as e do da em que um uma para com não por mais dos das no na ao são",
    "pl": "i w na z do że się nie to jest o od po za przez dla oraz być jak są",
    "sv": "och att det som en på är av för med till den har inte om ett de eller vid kan",
}
_VOTES = {
    word: [code for code, words in _WORDS.items() if word in words.split()]
    for words in _WORDS.values()
    for word in words.split()
}


def of(text: str, declared: str = "") -> str:
    """The language of a text (BCP 47).

    Args:
        declared: the language that the file declares; used unless the text clearly has another.
    """
    found = _by_script(text[:_LETTERS_MAX]) or _by_words(text[:_LETTERS_MAX])
    if not found:
        return declared or _UNKNOWN
    same = declared.partition("-")[0].lower() == found
    script_only = found.startswith("und-")
    return declared if declared and (same or script_only) else found


def normal(tag: str) -> str:
    """A language tag in the spelling of BCP 47; "" if it is not a language tag."""
    text = tag.strip().replace("_", "-")
    if not _TAG.fullmatch(text):
        return ""
    first, *rest = text.split("-")
    return "-".join([first.lower(), *(one.upper() if len(one) == 2 else one for one in rest)])


def _by_script(text: str) -> str:
    names = Counter(
        unicodedata.name(one, "").partition(" ")[0].partition("-")[0]
        for one in text
        if one.isalpha()
    )
    letters = sum(names.values())
    if names["HIRAGANA"] + names["KATAKANA"] > letters * 0.1:
        return "ja"  # Japanese text may have mostly Chinese characters.
    for script, code in _SCRIPTS.items():
        if names[script] > letters * _SHARE:
            return code
    return ""


def _by_words(text: str) -> str:
    """The language with clearly the most of its frequent words; "" if none has."""
    votes: Counter[str] = Counter()
    for word in re.findall(r"\w+", text.lower()):
        codes = _VOTES.get(word, ())
        for code in codes:
            votes[code] += 1 / len(codes)  # type: ignore[assignment]
    if not votes:
        return ""
    (first, most), *others = votes.most_common(2)
    second = others[0][1] if others else 0
    return first if most >= _WORDS_MIN and most >= 1.5 * second else ""
