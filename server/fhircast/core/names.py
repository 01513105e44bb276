"""Names of events. They fold case (H1); an organisation's own are reverse domains without a dash (H11)."""

import re
from typing import Final, get_args

from signaling.core.model import AnchorType, ContextType

ANCHORS: Final[tuple[str, ...]] = get_args(ContextType)
SYNC_ERROR: Final = "SyncError"
HOME_OPEN: Final = "Home-open"
USER_LOGOUT: Final = "UserLogout"
USER_HIBERNATE: Final = "UserHibernate"
REPORT_UPDATE: Final = "DiagnosticReport-update"
REPORT_SELECT: Final = "DiagnosticReport-select"

SUPPORTED: Final[tuple[str, ...]] = (
    *(f"{kind}-{verb}" for kind in ANCHORS for verb in ("open", "close")),
    REPORT_UPDATE,
    REPORT_SELECT,
    HOME_OPEN,
    SYNC_ERROR,
    USER_LOGOUT,
    USER_HIBERNATE,
)
MAX_NAME_CHARS: Final = 64

PATIENT: Final = "Patient"
USER: Final = "User"

KEYS: Final = {"Patient": "patient", "Encounter": "encounter", "ImagingStudy": "study", "DiagnosticReport": "report"}
"""Under which key an event's context holds a resource of the type; of history, a study's is not its type's name."""

COMPANIONS: Final[dict[str, tuple[AnchorType, ...]]] = {
    "DiagnosticReport": (AnchorType.ENCOUNTER, AnchorType.IMAGING_STUDY),
    "ImagingStudy": (AnchorType.ENCOUNTER,),
}
"""What an opening may say that it is about, and so opens as well: a program may hear of nothing else."""

_BY_FOLDED: Final = {name.lower(): name for name in SUPPORTED}
_OWN = re.compile(r"[a-z][a-z0-9]*(\.[a-z0-9_]+)+")


def canonical(name: str) -> str | None:
    """The name as the catalogue spells it, an organisation's own in lower case; None: not an event of this hub."""
    folded = name.strip().lower()
    if folded in _BY_FOLDED:
        return _BY_FOLDED[folded]
    return folded if len(folded) <= MAX_NAME_CHARS and _OWN.fullmatch(folded) else None


def kind_of(name: str) -> str:
    """The type that an event is about; leaving for home is about the patient, a logout about the user."""
    if name in (USER_LOGOUT, USER_HIBERNATE):
        return USER
    return PATIENT if name == HOME_OPEN else name.partition("-")[0]


def is_own(name: str) -> bool:
    """An organisation's own event: passed on, understood by nobody here."""
    return name not in SUPPORTED


def is_answered(name: str) -> bool:
    """Whether a subscriber that refuses or is silent is out of sync: never after an update or a selection (H20)."""
    return name.endswith(("-open", "-close")) or name in (USER_LOGOUT, USER_HIBERNATE)
