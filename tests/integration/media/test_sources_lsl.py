"""Lab Streaming Layer with a real outlet on this machine: samples, times, holes, loss."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from media.sources import Block, SourceError, SourceErrorCode

RATE = 500


@pytest.fixture(scope="module")
def pylsl(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The library, kept to this machine: nothing of a test goes into the network."""
    config: Path = tmp_path_factory.mktemp("lsl") / "lsl_api.cfg"
    config.write_text("[multicast]\nResolveScope = machine\n[lab]\nKnownPeers = {127.0.0.1}\n[ports]\nIPv6 = disable\n")
    os.environ["LSLAPICFG"] = str(config)
    return pytest.importorskip("pylsl")


@pytest.fixture
def outlet(pylsl: Any) -> Iterator[tuple[str, Any]]:
    name = f"ecg-{uuid.uuid4().hex[:8]}"
    info = pylsl.StreamInfo(name, "ECG", 3, RATE, pylsl.cf_int16, name)
    channels = info.desc().append_child("channels")
    for label in ("V2", "AVR", "II"):
        channels.append_child("channel").append_child_value("label", label).append_child_value("unit", "microvolts")
    made = pylsl.StreamOutlet(info)
    yield name, made
    del made


async def pushed(outlet: Any, table: np.ndarray, start: float) -> None:
    """All at once, each sample with its time."""
    for i, row in enumerate(table):
        outlet.push_sample(row.tolist(), start + i / RATE)
        if i % 100 == 0:
            await asyncio.sleep(0)


async def test_samples_come_exactly_at_their_times_in_wire_order(pylsl: Any, outlet: tuple[str, Any]) -> None:
    """[W3] The stamps are brought to this machine's monotonic clock by the library's time correction."""
    from media.sources.lsl import LslSource

    name, sender = outlet
    source = LslSource(name, find_s=60.0)
    try:
        (format_,) = await source.open()
        assert format_.leads == ("II", "aVR", "V2")
        assert (format_.sample_rate_mhz, format_.lsb_nv, format_.simulated) == (500_000, 1000, False)
        rng = np.random.default_rng(4)
        table = rng.integers(-5000, 5000, (370, 3)).astype(np.int16)
        before_us = time.monotonic_ns() // 1000
        start = pylsl.local_clock()
        after_us = time.monotonic_ns() // 1000
        await asyncio.to_thread(sender.wait_for_consumers, 60)
        await pushed(sender, table[:220], start)
        await pushed(sender, table[220:], start + 1.54)  # the device lost 550 samples
        blocks: list[Block] = []
        items = source.items()
        async with asyncio.timeout(60):
            while sum(b.samples.shape[1] for b in blocks) < 350:
                _, item = await anext(items)
                assert isinstance(item, Block)
                blocks.append(item)
        got = np.concatenate([b.samples for b in blocks], axis=1)
        np.testing.assert_array_equal(got, table[:, [2, 1, 0]].T)
        assert [(b.skipped, b.samples.shape[1]) for b in blocks] == [
            (0, 50), (0, 50), (0, 50), (0, 50), (0, 20), (550, 50), (0, 50), (0, 50),
        ]  # fmt: skip
        assert [b.restart for b in blocks] == [True, *[False] * 7]
        # The correction is near 0: same machine. How near is half the shortest of the library's questions to itself.
        assert before_us - 250_000 < blocks[0].captured_us < after_us + 250_000
        steps = np.diff([b.captured_us for b in blocks])
        np.testing.assert_allclose(steps[:3], 100_000, atol=500)
    finally:
        await source.close()


async def test_no_such_stream_is_said_in_words(pylsl: Any) -> None:
    from media.sources.lsl import LslSource

    with pytest.raises(SourceError) as raised:
        await LslSource(f"none-{uuid.uuid4().hex}", find_s=0.5).open()
    assert raised.value.code is SourceErrorCode.NOT_FOUND


async def test_channels_without_a_unit_are_refused(pylsl: Any) -> None:
    """Nobody can say how large they are."""
    from media.sources.lsl import LslSource

    name = f"raw-{uuid.uuid4().hex[:8]}"
    sender = pylsl.StreamOutlet(pylsl.StreamInfo(name, "ECG", 2, RATE, pylsl.cf_float32, name))
    with pytest.raises(SourceError) as raised:
        await LslSource(name, find_s=60.0).open()
    assert raised.value.code is SourceErrorCode.SCALE_UNKNOWN
    del sender
