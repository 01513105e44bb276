"""Family names, so that two patients who could be taken for one another are told apart. [SN1] (W25)

FHIR gives the family name where the hospital sent it; many hospitals here send one text, 陈秀英. Of a Chinese text the
first character is the family name, or two where it is one of the compound ones. A Latin text does not say which word
is: it is left out rather than guessed, a warning that is often wrong is one that nobody reads.
"""

import unicodedata
from collections.abc import Iterable, Mapping

from signaling.core.ids import ConsultId, PatientId

COMPOUND = frozenset(
    f"{first}{second}"
    for first, second in zip(
        "欧太端上司东独南万闻夏诸尉公赫澹皇宗濮公太申公慕仲钟长宇司鲜司闾令百呼东南西微轩拓纳",
        "阳史木官马方孤宫俟人侯葛迟羊连台甫政阳冶叔屠孙容孙离孙文徒于空丘狐里延郭门门生辕跋兰",
        strict=True,
    )
)
"""Family names of two characters that are in use."""


def keys_of(families: Iterable[str], names: Iterable[str]) -> frozenset[str]:
    """What two people with the same family name have in common.

    Args:
        families: family names as the record gives them, in any script.
        names: whole names, from which a Chinese family name is taken.
    """
    found = {_folded(family) for family in families}
    found |= {_first(_folded(name)) for name in names}
    return frozenset(found - {""})


def _folded(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _first(name: str) -> str:
    """The family name of a Chinese name; empty for any other."""
    if not name or not _is_han(name[0]) or len(name) > 6:
        return ""
    return name[:2] if name[:2] in COMPOUND else name[0]


def _is_han(char: str) -> bool:
    return unicodedata.name(char, "").startswith("CJK UNIFIED IDEOGRAPH")


def namesakes(shown: Mapping[ConsultId, PatientId], keys: Mapping[PatientId, frozenset[str]]) -> set[ConsultId]:
    """Consults whose patient shares a family name with a different patient who is open in another one. [SN1]"""
    open_in: dict[str, set[PatientId]] = {}
    for patient in shown.values():
        for key in keys[patient]:
            open_in.setdefault(key, set()).add(patient)
    return {consult for consult, patient in shown.items() if any(len(open_in[key]) > 1 for key in keys[patient])}
