"""Who may do what over HTTP: the one table, tested cell by cell.

What may be done *inside* a consult is `signaling.core.policy`. Membership of the
consult in question is checked as well; a cell only says "a doctor may, in her
own consults".
"""

from enum import StrEnum

from server.identity.core.principal import AccessRole


class Action(StrEnum):
    """Row of the table."""

    SEE_CONSULT = "see_consult"
    ENTER_CONSULT = "enter_consult"
    SEE_PATIENTS = "see_patients"
    READ_RECORD = "read_record"
    SEE_WAVEFORMS = "see_waveforms"
    EXPORT_WAVEFORM = "export_waveform"
    READ_ENDED_WAVEFORMS = "read_ended_waveforms"
    IMPORT_WAVEFORM = "import_waveform"
    PREPARE_CASE_PACK = "prepare_case_pack"
    SEND_CASE_PACK = "send_case_pack"
    READ_CASE_PACK = "read_case_pack"
    INVITE_GUEST = "invite_guest"
    SEE_STATIONS = "see_stations"
    MANAGE_SCREENS = "manage_screens"
    MANAGE_CLIENTS = "manage_clients"
    MANAGE_GATEWAYS = "manage_gateways"
    READ_AUDIT = "read_audit"


_CLINICIANS = frozenset({AccessRole.DOCTOR, AccessRole.NURSE})
_STAFF = _CLINICIANS | {AccessRole.ADMIN}
_SCREENS = frozenset({AccessRole.RECORD_SCREEN, AccessRole.OTHER_SCREEN})
_SOURCES = frozenset({AccessRole.ROOM, AccessRole.DEVICE})

ALLOWED: dict[Action, frozenset[AccessRole]] = {
    Action.SEE_CONSULT: _STAFF | _SCREENS | _SOURCES | {AccessRole.GUEST},
    Action.ENTER_CONSULT: _CLINICIANS | _SCREENS | _SOURCES | {AccessRole.GUEST},
    # Every screen shows the banner (W18), also those that may not read the record (G11).
    Action.SEE_PATIENTS: _CLINICIANS | _SCREENS | {AccessRole.GUEST},
    Action.READ_RECORD: _CLINICIANS | {AccessRole.GUEST, AccessRole.RECORD_SCREEN},
    # Of the open patient: an ECG wall scrolls back too.
    Action.SEE_WAVEFORMS: _CLINICIANS | _SCREENS | {AccessRole.GUEST},
    # A wall shows; a file with the patient's name leaves with a person only.
    Action.EXPORT_WAVEFORM: _CLINICIANS | {AccessRole.GUEST},
    Action.READ_ENDED_WAVEFORMS: _CLINICIANS,
    Action.IMPORT_WAVEFORM: _CLINICIANS,
    # Also asking for parts, and answering at the asked hospital.
    Action.PREPARE_CASE_PACK: _CLINICIANS,
    Action.SEND_CASE_PACK: frozenset({AccessRole.DOCTOR}),
    # The whole case at once: no wall, no guest link (G11).
    Action.READ_CASE_PACK: _CLINICIANS,
    Action.INVITE_GUEST: _CLINICIANS,
    Action.SEE_STATIONS: _STAFF,
    Action.MANAGE_SCREENS: _STAFF,
    # Programs that may ask for the record: never a clinician's by the way.
    Action.MANAGE_CLIENTS: frozenset({AccessRole.ADMIN}),
    # What connects a hospital to the hub, and the log of what crossed.
    Action.MANAGE_GATEWAYS: frozenset({AccessRole.ADMIN}),
    # Who saw whose record and when, never what is in it.
    Action.READ_AUDIT: frozenset({AccessRole.ADMIN}),
}


def allowed(role: AccessRole, action: Action) -> bool:
    """The only permission check of the HTTP API."""
    return role in ALLOWED[action]
