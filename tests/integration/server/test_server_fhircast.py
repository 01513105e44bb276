"""The FHIRcast hub: programs over real HTTP and sockets follow and drive the same context as our screens. H1-H30."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fhircast_kit import Cast, running_cast

from signaling.core.model import Role


@pytest.fixture
async def cast(tmp_path: Path) -> AsyncIterator[Cast]:
    async with running_cast(tmp_path) as running:
        await running.here("d1", Role.DOCTOR)
        yield running


async def test_a_program_opens_a_patient_on_every_screen(cast: Cast) -> None:
    """[PR1] [PR2] (H4, H10, H13, H14, H24)"""
    program = await cast.program()
    listener = await program.follow(cast.topic)
    status, body = await program.open_patient(cast.topic, id="my-own-id")
    assert (status, body) == (202, {"id": "my-own-id"})
    event = await listener.event("Patient-open")
    assert event["id"] == "my-own-id"
    state = await cast.state()
    assert state.context is not None
    assert (state.context.patient.id, state.context_version, state.current) == ("pt1", 1, "Patient")
