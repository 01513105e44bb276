"""Who may ask for what: one role x action table, the only permission check of signalling.

An action is a command type, except that data is two things: ``ctl`` is every
client's own line to the relay; all else is a waveform, which a device sends and
a viewer receives.

Rules that depend on the consult's state (who leads, which patient is open)
are in ``consult.py``; this table only knows roles.
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
_SEE_RECORD = frozenset({"confirm_context"})
_OPEN_RECORD = frozenset({"open_context", "close_context"})
_LEAD = frozenset({"take_lead", "hand_lead", "turn_page", "scroll", "point"})

_WATCH = _PRESENT | _TRANSPORT | _CTL | _RECEIVE | _SEE_RECORD

TABLE: dict[Role, frozenset[str]] = {
    Role.DOCTOR: _WATCH | _SEND | _OPEN_RECORD | _LEAD | {"end_consult"},
    Role.NURSE: _WATCH | _SEND | _OPEN_RECORD,
    Role.GUEST: _WATCH | _SEND | _LEAD,
    Role.SCREEN: _WATCH,
    Role.ROOM: _PRESENT | _TRANSPORT | _CTL | _RECEIVE | _SEND,
    Role.DEVICE: _PRESENT | _TRANSPORT | _CTL | {"produce_data/waveform"},
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
