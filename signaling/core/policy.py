"""Who may ask for what: one role x action table, the only permission check of signalling.

An action is a command type, except that data is two things: ``ctl`` is every
client's own line to the relay; all else is waveforms and vital signs, which a
device sends and a viewer receives.

Rules that depend on the consult's state (who leads, which patient is open, who
stands at the bedside) are in ``consult.py`` and ``binding.py``; this table only knows roles.
"""

from signaling.core.errors import ErrorCode, Refusal
from signaling.core.messages import AnyCommand, ConsumeData, ProduceData
from signaling.core.model import Role

_PRESENT = frozenset({"join", "sync", "leave"})
_TRANSPORT = frozenset({"create_transport", "connect_transport", "restart_ice"})
_CTL = frozenset(
    {"produce_data/ctl", "close_data_producer", "consume_data/ctl", "resume_data_consumer", "close_data_consumer"}
)
_SEND = frozenset({"produce", "pause_producer", "resume_producer", "close_producer"})
_RECEIVE = frozenset(
    {"consume", "consume_data/waveform", "pause_consumer", "resume_consumer", "view_consumer", "close_consumer"}
)
_SEE_RECORD = frozenset({"confirm_context", "show_view"})
_OPEN_RECORD = frozenset({"open_context", "close_context", "open_anchor", "close_anchor", "dismiss_program"})
_SHARE = frozenset({"share_content", "select_content"})
_BIND = frozenset({"bind_device", "unbind_device"})
_TRACE = frozenset({"freeze_ecg", "release_ecg", "put_ecg_mark", "remove_ecg_mark", "point_ecg", "take_ecg_snapshot"})
_VIEW = frozenset({"report_ecg_state"})
_MARK = frozenset(
    {"highlight", "clear_highlight", "freeze_page", "release_page", "put_note", "mark_note_in_error", "ink"}
)
_IDENTITY = frozenset({"tick_identity", "skip_identity_check", "report_wrong_patient"})
_LEAD = frozenset({"take_lead", "hand_lead", "turn_page", "scroll", "point"})

_WATCH = _PRESENT | _TRANSPORT | _CTL | _RECEIVE | _SEE_RECORD | _VIEW

TABLE: dict[Role, frozenset[str]] = {
    Role.DOCTOR: _WATCH | _SEND | _OPEN_RECORD | _SHARE | _LEAD | _BIND | _TRACE | _MARK | _IDENTITY | {"end_consult"},
    Role.NURSE: _WATCH | _SEND | _OPEN_RECORD | _SHARE | _BIND | _TRACE | _MARK | _IDENTITY,
    Role.GUEST: _WATCH | _SEND | _SHARE | _LEAD | _TRACE | _MARK | _IDENTITY | {"unbind_device"},
    Role.SCREEN: _WATCH,
    Role.ROOM: _PRESENT | _TRANSPORT | _CTL | _RECEIVE | _SEND | _VIEW | _BIND,
    Role.DEVICE: _PRESENT | _TRANSPORT | _CTL | _BIND | {"produce_data/waveform", "report_patient"},
}
"""Everything a role may ask for; what is not listed is refused."""


def action_of(command: AnyCommand) -> str:
    """The row of the table that a command falls under."""
    if isinstance(command, ProduceData):
        return "produce_data/ctl" if command.label == "ctl" else "produce_data/waveform"
    if isinstance(command, ConsumeData):
        return "consume_data/ctl" if command.data_producer == "ctl" else "consume_data/waveform"
    return command.type


def allows(role: Role, command: AnyCommand) -> bool:
    """Whether the role may ask for this."""
    return action_of(command) in TABLE[role]


def check(role: Role, command: AnyCommand) -> None:
    """Let the command pass or refuse it.

    Raises:
        Refusal: ``not_allowed``.
    """
    if not allows(role, command):
        raise Refusal(ErrorCode.NOT_ALLOWED, f"{role} may not {action_of(command)}")
