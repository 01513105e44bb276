"""A relay with real peers under seeded nonsense; ``make fuzz`` goes on for longer."""

import pytest

from tests.fuzz.live import LIVE, explore_handshakes, explore_live

INPUTS = 3_000
LONG_S = 60.0


@pytest.mark.parametrize("name", LIVE)
async def test_a_session_does_not_notice(name: str) -> None:
    found = await explore_live(name, LONG_S, 2026, INPUTS)
    assert not found.crashes
    assert found.inputs == INPUTS


async def test_spoilt_handshakes_end_at_most_themselves() -> None:
    assert await explore_handshakes(4, 2026, 1.0) > 20
