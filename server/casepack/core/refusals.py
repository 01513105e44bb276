"""Why something with a case pack is declined; the API gives each a status and sentences."""

from enum import StrEnum


class PackCode(StrEnum):
    """Codes never change meaning."""

    NOT_FOUND = "not_found"
    """No such patient, pack, part or ask for this caller: the four are not told apart."""
    CONSULT_ENDED = "consult_ended"
    UNFINISHED = "casepack_unfinished"
    """The request lacks what C25 wants."""
    CHANGED = "casepack_changed"
    """The record is no longer what the sender looked at."""
    UNCHANGED = "casepack_unchanged"
    """Nothing differs from the version that was sent."""
    DAMAGED = "casepack_damaged"
    """What is stored is not what was sent."""
    ALREADY_ASKED = "already_asked"
    ASK_CLOSED = "ask_closed"
    TOO_MANY = "too_many_asks"
    TOO_LARGE = "too_large"


class PackRefused(Exception):
    """Declined; nothing was changed by it."""

    def __init__(self, code: PackCode, detail: str = "") -> None:
        super().__init__(f"{code.value}: {detail}" if detail else code.value)
        self.code, self.detail = code, detail
