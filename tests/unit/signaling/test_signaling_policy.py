"""The permission table, written out a second time: a change must be meant."""

from __future__ import annotations

from typing import get_args

import pytest

from signaling.core import messages as m
from signaling.core import policy
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import DataProducerId, TransportId
from signaling.core.model import Role
from tests.signaling_kit import produce_data, produce_vitals, waveform

ALL = "doctor nurse guest screen room device"
EXPECTED: dict[str, str] = {
    "join": ALL,
    "sync": ALL,
    "leave": ALL,
    "create_transport": ALL,
    "connect_transport": ALL,
    "restart_ice": ALL,
    "produce_data/ctl": ALL,
    "consume_data/ctl": ALL,
    "close_data_producer": ALL,
    "resume_data_consumer": ALL,
    "close_data_consumer": ALL,
    "consume": "doctor nurse guest screen room",
    "pause_consumer": "doctor nurse guest screen room",
    "resume_consumer": "doctor nurse guest screen room",
    "view_consumer": "doctor nurse guest screen room",
    "close_consumer": "doctor nurse guest screen room",
    "consume_data/waveform": "doctor nurse guest screen room",
    "produce": "doctor nurse guest room",
    "pause_producer": "doctor nurse guest room",
    "resume_producer": "doctor nurse guest room",
    "close_producer": "doctor nurse guest room",
    "confirm_context": "doctor nurse guest screen",
    "open_context": "doctor nurse",
    "close_context": "doctor nurse",
    "open_anchor": "doctor nurse",
    "close_anchor": "doctor nurse",
    "share_content": "doctor nurse guest",
    "select_content": "doctor nurse guest",
    "dismiss_program": "doctor nurse",
    "take_lead": "doctor guest",
    "hand_lead": "doctor guest",
    "turn_page": "doctor guest",
    "scroll": "doctor guest",
    "point": "doctor guest",
    "end_consult": "doctor",
    "produce_data/waveform": "device",
    "bind_device": "doctor nurse room device",
    "unbind_device": "doctor nurse guest room device",
    "report_patient": "device",
    "freeze_ecg": "doctor nurse guest",
    "release_ecg": "doctor nurse guest",
    "put_ecg_mark": "doctor nurse guest",
    "remove_ecg_mark": "doctor nurse guest",
    "point_ecg": "doctor nurse guest",
    "take_ecg_snapshot": "doctor nurse guest",
    "report_ecg_state": "doctor nurse guest screen room",
    "highlight": "doctor nurse guest",
    "clear_highlight": "doctor nurse guest",
    "freeze_page": "doctor nurse guest",
    "release_page": "doctor nurse guest",
    "put_note": "doctor nurse guest",
    "ink": "doctor nurse guest",
    "mark_note_in_error": "doctor nurse guest",
    "show_view": "doctor nurse guest screen",
    "tick_identity": "doctor nurse guest",
    "skip_identity_check": "doctor nurse guest",
    "report_wrong_patient": "doctor nurse guest",
}


@pytest.mark.parametrize("action", EXPECTED)
@pytest.mark.parametrize("role", Role)
def test_every_cell_of_the_table(role: Role, action: str) -> None:
    """Who may do what."""
    assert (action in policy.TABLE[role]) == (role.value in EXPECTED[action].split())


def test_every_command_has_a_row_and_no_row_is_left_over() -> None:
    """A new command is refused to everyone until someone decides."""
    commands = {cls.model_fields["type"].default for cls in get_args(get_args(m.AnyCommand)[0])}
    rows = {action.partition("/")[0] for action in EXPECTED}
    assert rows == commands
    assert set().union(*policy.TABLE.values()) == set(EXPECTED)
    assert set(policy.TABLE) == set(Role)


@pytest.mark.parametrize(
    ("command", "action"),
    [
        (produce_data(waveform()), "produce_data/waveform"),
        (produce_vitals(), "produce_data/waveform"),
        (produce_data(None, "ctl"), "produce_data/ctl"),
        (produce_data(None, "anything"), "produce_data/waveform"),
        (m.ConsumeData(transport=TransportId("t"), data_producer=DataProducerId("ctl")), "consume_data/ctl"),
        (m.ConsumeData(transport=TransportId("t"), data_producer=DataProducerId("d1")), "consume_data/waveform"),
        (m.TakeLead(), "take_lead"),
    ],
)
def test_data_is_two_actions(command: m.AnyCommand, action: str) -> None:
    """A viewer's own line to the relay is not a waveform."""
    assert policy.action_of(command) == action


def test_refusal_names_no_reason_to_the_outside() -> None:
    """The detail is for the log; the person reads the sentence of the code."""
    with pytest.raises(Refusal) as refused:
        policy.check(Role.SCREEN, m.TakeLead())
    assert refused.value.code is ErrorCode.NOT_ALLOWED
    assert "screen" not in refused.value.en
