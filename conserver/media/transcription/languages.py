"""The languages that multilingual Whisper models know, by the codes that they use."""

from __future__ import annotations

LANGUAGES = frozenset(
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he "
    "hi hr ht hu hy id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne "
    "nl nn no oc pa pl ps pt ro ru sa sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk "
    "ur uz vi yi yo yue zh".split()
)

# The English names that OpenAI's servers use for the most common languages.
_NAMES = (
    "af:afrikaans ar:arabic az:azerbaijani be:belarusian bg:bulgarian bn:bengali bs:bosnian "
    "ca:catalan cs:czech cy:welsh da:danish de:german el:greek en:english es:spanish et:estonian "
    "fa:persian fi:finnish fr:french gl:galician gu:gujarati he:hebrew hi:hindi hr:croatian "
    "hu:hungarian hy:armenian id:indonesian is:icelandic it:italian ja:japanese ka:georgian "
    "kk:kazakh km:khmer kn:kannada ko:korean lt:lithuanian lv:latvian mi:maori mk:macedonian "
    "ml:malayalam mn:mongolian mr:marathi ms:malay my:myanmar ne:nepali nl:dutch no:norwegian "
    "pa:punjabi pl:polish ps:pashto pt:portuguese ro:romanian ru:russian sk:slovak sl:slovenian "
    "sq:albanian sr:serbian sv:swedish sw:swahili ta:tamil te:telugu th:thai tl:tagalog tr:turkish "
    "uk:ukrainian ur:urdu uz:uzbek vi:vietnamese yue:cantonese zh:chinese"
)
_CODES = {name: code for code, name in (pair.split(":") for pair in _NAMES.split())}


def code_of(language: str | None) -> str | None:
    """The code of a language. language: a code or an English name. None: it is neither."""
    text = (language or "").strip().lower()
    if text in _CODES:
        return _CODES[text]
    code = text.replace("_", "-").partition("-")[0]
    return code if code in LANGUAGES else None
