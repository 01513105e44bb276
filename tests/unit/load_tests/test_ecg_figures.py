"""The ECG benchmarks' own judgement, and that the bad network is as bad as it says."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any

import numpy as np
import pytest

from load_tests.bench.ecg import relay as ecg_relay
from load_tests.bench.ecg.codec import fhir_json
from load_tests.bench.ecg.latency import Result, live_share
from load_tests.bench.ecg.rig import OTHERS_SHARE, Watch
from load_tests.browsers.page import Machine
from load_tests.rig.ecg_records import encode_all, record_500
from load_tests.rig.lossy_path import LossyPath, Weather
from media.core.waveform import split_message

GOOD = ecg_relay.Point(
    streams=16, p50_ms=0.4, p99_ms=2.0, delivered=1.0, core_share=0.1, cpu_us_per_copy=90.0, late_p99_ms=0.1,
    idle_share=0.9, overflowed=0, failed=0,
)  # fmt: skip


class _Ward:
    """Points as a worker that holds so many streams would give them."""

    def __init__(self, holds: int, generator: int = 10_000) -> None:
        self.holds, self.generator = holds, generator
        self.asked: list[int] = []

    async def grow(self, streams: int) -> None:
        pass

    def point(self, streams: int) -> ecg_relay.Point:
        self.asked.append(streams)
        late_ms = 50.0 if streams > self.generator else 0.1
        return dataclasses.replace(
            GOOD, streams=streams, p99_ms=2.0 if streams <= self.holds else 90.0, late_p99_ms=late_ms
        )


async def _search(monkeypatch: pytest.MonkeyPatch, ward: Any) -> ecg_relay.Found | None:
    monkeypatch.setattr(ecg_relay, "measure_point", lambda _ward, streams, _window_s: ward.point(streams))
    return await ecg_relay.search(ward, 0.0)


@pytest.mark.parametrize("holds", [3, 16, 100, 176, 500])
async def test_the_search_brackets_the_limit(monkeypatch: pytest.MonkeyPatch, holds: int) -> None:
    found = await _search(monkeypatch, _Ward(holds))
    assert found is not None
    assert found.limit == "relay"
    assert found.best.streams <= holds
    assert found.worse is None or found.best.streams < holds + 1 <= found.worse.streams


async def test_a_relay_that_is_never_slow_is_a_lower_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await _search(monkeypatch, _Ward(10_000))
    assert found is not None
    assert (found.best.streams, found.limit) == (ecg_relay.MOST, "most")


async def test_a_generator_at_its_limit_ends_the_search_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await _search(monkeypatch, _Ward(10_000, generator=100))
    assert found is not None
    assert (found.best.streams, found.limit) == (64, "generator")


@pytest.mark.parametrize("spoiled", [{"failed": 1}, {"overflowed": 1}, {"late_p99_ms": 6.0}, {"idle_share": 0.01}])
def test_a_point_of_a_generator_that_was_the_bottleneck_is_invalid(spoiled: dict[str, Any]) -> None:
    assert GOOD.valid
    assert not dataclasses.replace(GOOD, **spoiled).valid


def test_messages_of_the_benchmark_are_the_record() -> None:
    record = record_500()
    frames = [split_message(message)[0] for message in encode_all(record, redundant=True)]
    assert np.array_equal(np.concatenate([frame.samples for frame in frames], axis=1), record.samples)
    assert fhir_json(record.samples[:, :2], record, 0).count(b"valueSampledData") == 12


@pytest.mark.parametrize(("missing", "wrong", "invented"), [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_one_sample_too_few_too_many_or_wrong_is_not_exact(missing: int, wrong: int, invented: int) -> None:
    result = Result([1.0], [1.0], 0, missing, wrong, invented, 0, [], 1.0, Watch())
    assert not result.exact
    assert dataclasses.replace(result, missing=0, wrong=0, invented=0).exact


@pytest.mark.parametrize(
    ("states", "share"),
    [
        ([(0.0, "LIVE")], 1.0),
        ([(0.0, "LIVE"), (1500.0, "DELAYED"), (1750.0, "LIVE")], 0.75),
        ([(1500.0, "STALE"), (1750.0, "LIVE")], 0.5),
        ([(1200.0, "LIVE"), (5000.0, "LOST")], 1.0),
        ([], 0.0),
    ],
)
def test_how_long_a_view_said_live(states: list[tuple[float, str]], share: float) -> None:
    assert live_share(states, 1000.0, 2000.0) == pytest.approx(share)


def test_a_busy_neighbour_spoils_a_figure_and_our_own_work_does_not() -> None:
    assert Watch(wait_share=0.5).params["valid"]
    assert not Watch(others_share=OTHERS_SHARE + 0.01).params["valid"]
    machine = Machine()
    assert machine.others_share() == 0.0
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert 0.0 <= machine.others_share() <= 1.0


class _Inbox(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.any = asyncio.Event()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.append(data)
        self.any.set()


async def test_the_bad_path_carries_loses_and_cuts() -> None:
    """Order is kept under jitter; what it says it lost and passed is all there was."""
    loop = asyncio.get_running_loop()
    far, far_inbox = await loop.create_datagram_endpoint(_Inbox, ("127.0.0.1", 0))
    path = LossyPath(far.get_extra_info("sockname"), seed=1)
    port = await path.open()
    near, _ = await loop.create_datagram_endpoint(_Inbox, remote_addr=("127.0.0.1", port))
    path.weather = Weather(delay_ms=1.0, jitter_ms=5.0)
    near.sendto(b"first")
    await asyncio.wait_for(far_inbox.any.wait(), 10)
    for number in range(100):
        near.sendto(bytes((number,)))
    async with asyncio.timeout(10):
        while len(far_inbox.got) < 101:
            await asyncio.sleep(0.005)
    assert far_inbox.got == [b"first", *(bytes((number,)) for number in range(100))]

    path.weather = Weather(loss=0.5)
    for number in range(200):
        near.sendto(bytes((number,)))
    async with asyncio.timeout(10):
        while path.lost + path.passed < 301:
            await asyncio.sleep(0.005)
    assert 60 < path.lost < 140
    lost = path.lost
    path.weather = Weather(cut=True)
    near.sendto(b"x")
    async with asyncio.timeout(10):
        while path.lost < lost + 1:
            await asyncio.sleep(0.005)
    for transport in (near, far):
        transport.close()
    path.close()
