"""The names of languages, as OpenAI's API and Whisper write them."""

from __future__ import annotations

_TABLE = """
en:english zh:chinese de:german es:spanish ru:russian ko:korean fr:french ja:japanese pt:portuguese tr:turkish
pl:polish ca:catalan nl:dutch ar:arabic sv:swedish it:italian id:indonesian hi:hindi fi:finnish vi:vietnamese
he:hebrew uk:ukrainian el:greek ms:malay cs:czech ro:romanian da:danish hu:hungarian ta:tamil no:norwegian th:thai
ur:urdu hr:croatian bg:bulgarian lt:lithuanian la:latin mi:maori ml:malayalam cy:welsh sk:slovak te:telugu fa:persian
lv:latvian bn:bengali sr:serbian az:azerbaijani sl:slovenian kn:kannada et:estonian mk:macedonian br:breton eu:basque
is:icelandic hy:armenian ne:nepali mn:mongolian bs:bosnian kk:kazakh sq:albanian sw:swahili gl:galician mr:marathi
pa:punjabi si:sinhala km:khmer sn:shona yo:yoruba so:somali af:afrikaans oc:occitan ka:georgian be:belarusian tg:tajik
sd:sindhi gu:gujarati am:amharic yi:yiddish lo:lao uz:uzbek fo:faroese ht:haitian_creole ps:pashto tk:turkmen
nn:nynorsk mt:maltese sa:sanskrit lb:luxembourgish my:myanmar bo:tibetan tl:tagalog mg:malagasy as:assamese tt:tatar
haw:hawaiian ln:lingala ha:hausa ba:bashkir jw:javanese su:sundanese yue:cantonese
"""
NAMES = {code: name.replace("_", " ") for code, name in (entry.split(":") for entry in _TABLE.split())}
"""Code → name, in lower case."""
_OTHERS = """
my:burmese ca:valencian nl:flemish ht:haitian lb:letzeburgesch ps:pushto pa:panjabi ro:moldavian ro:moldovan
si:sinhalese es:castilian zh:mandarin
"""
CODES = {name: code for code, name in NAMES.items()} | {
    name: code for code, name in (entry.split(":") for entry in _OTHERS.split())
}


def code_of(language: str) -> str:
    """``en`` for ``en``, ``EN``, ``en-US`` and ``English``; what is not known here as it is, since a model may know it."""
    plain = language.strip().lower()
    if plain in CODES:
        return CODES[plain]
    return next((tag for tag in (plain, plain.replace("_", "-").partition("-")[0]) if tag in NAMES), language.strip())


def name_of(code: str) -> str:
    """``english`` for ``en``; a code that is not known here as it is."""
    return NAMES.get(code, code)
