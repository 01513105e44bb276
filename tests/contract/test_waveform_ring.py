"""The live ring answers alike in memory and in a real redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from media.core.waveform import Place
from server.waveforms.redis_ring import RedisRing
from server.waveforms.ring import LiveRing, MemoryRing, RingUnavailable
from tests.contract.signaling.conftest import RedisServer, redis_server  # noqa: F401 - fixture

MOST = 500


@pytest.fixture(params=["memory", "redis"])
async def ring(request: pytest.FixtureRequest) -> AsyncIterator[LiveRing]:
    made: LiveRing
    made = MemoryRing() if request.param == "memory" else RedisRing(request.getfixturevalue("redis_server").url)
    yield made
    await made.close()


def frames(*seqs: int, epoch: int = 0) -> list[tuple[Place, bytes]]:
    return [(Place(epoch, seq), f"{epoch}/{seq}".encode()) for seq in seqs]


async def test_a_range_comes_in_the_order_of_the_stream_however_it_arrived(ring: LiveRing) -> None:
    """[WF8] Late frames, repeated ones, and a device that counts anew."""
    await ring.append("w", frames(0, 1, 2, 5, 6), 1_000)
    await ring.append("w", frames(4, 3, 1), 1_100)
    await ring.append("w", frames(0, 1, epoch=1), 1_200)
    await ring.append("w", frames(7), 1_300)
    assert await ring.get("w", Place(0, 2), Place(0, 6)) == frames(2, 3, 4, 5, 6)
    assert await ring.get("w", Place(0, 6), Place(1, 0)) == [*frames(6, 7), *frames(0, epoch=1)]
    assert await ring.get("w", Place(0, 0), Place(9, 9)) == [*frames(*range(8)), *frames(0, 1, epoch=1)]
    assert await ring.newest("w") == Place(1, 1)


async def test_streams_do_not_know_each_other_and_end(ring: LiveRing) -> None:
    await ring.append("a", frames(1), 1_000)
    await ring.append("b", frames(2), 1_000)
    assert await ring.newest("c") is None
    assert await ring.get("c", Place(0, 0), Place(0, 9)) == []
    await ring.forget("a")
    await ring.forget("a")
    assert await ring.newest("a") is None
    assert await ring.newest("b") == Place(0, 2)


async def test_a_ring_has_a_bound(ring: LiveRing, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go; what is kept is what came last."""
    for module in ("ring", "redis_ring"):
        monkeypatch.setattr(f"server.waveforms.{module}.MAX_FRAMES", MOST)
    total = 3 * MOST
    for first in range(0, total, 100):
        await ring.append("w", frames(*range(first, first + 100)), first)
    kept = await ring.get("w", Place(0, 0), Place(0, total))
    assert len(kept) < total
    assert MOST <= len(kept) <= MOST + 200  # redis cuts whole nodes
    assert kept[-1][0] == Place(0, total - 1)
    assert [place.seq for place, _ in kept] == list(range(kept[0][0].seq, total))


async def test_frames_outlive_the_process_that_wrote_them(redis_server: RedisServer) -> None:  # noqa: F811
    """A new process goes on above what is there, and what it has late goes beside it."""
    first, second = RedisRing(redis_server.url), RedisRing(redis_server.url)
    await first.append("w", frames(0, 1, 3), 1)
    await second.append("w", frames(2, 4), 2)
    assert await first.get("w", Place(0, 0), Place(0, 9)) == frames(0, 1, 2, 3, 4)
    await first.close()
    await second.close()


Use = Callable[[RedisRing], Awaitable[object]]


@pytest.mark.parametrize(
    "use",
    [
        lambda ring: ring.append("w", frames(1), 1),
        lambda ring: ring.get("w", Place(0, 0), Place(0, 1)),
        lambda ring: ring.newest("w"),
        lambda ring: ring.forget("w"),
    ],
)
async def test_a_redis_that_is_away_is_a_typed_error(redis_server: RedisServer, use: Use) -> None:  # noqa: F811
    ring = RedisRing(redis_server.url)
    await ring.append("w", frames(0), 1)
    redis_server.kill()
    with pytest.raises(RingUnavailable):
        await use(ring)
    redis_server.start()
    await ring.append("w", frames(1), 1)
    await ring.close()
