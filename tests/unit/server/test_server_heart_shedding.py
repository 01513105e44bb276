"""Heart rates of more streams than there is time for: who is shed is told so, and is served again later."""

from types import SimpleNamespace
from typing import Any

from server.waveforms.archive import OpenStream
from server.waveforms.core.order import StreamState
from server.waveforms.core.stream import StreamInfo
from server.waveforms.desk import LiveStream
from server.waveforms.heart import LATE_S, Hearts
from signaling.core.messages import HeartRate


def live(number: int) -> LiveStream:
    info = StreamInfo(
        archive=f"w{number}", consult=f"c{number}", stream_id=number, kind="live", title="d", device="d", leads=("I",),
        sample_rate_mhz=500_000, lsb_nv=1000, filter="", simulated=True, patient="p",
    )  # fmt: skip
    return LiveStream(info, OpenStream(info, StreamState(), []), producer="x")


class Busy(Hearts):
    """Its process answers in a time of the test's own; sixty beats a minute to whoever is asked about."""

    def __init__(self) -> None:
        self.told: list[HeartRate] = []
        desk: Any = SimpleNamespace(all_streams=[])
        super().__init__(desk, lambda _consult, rate: self.told.append(rate), lambda: 0)

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"rates": {key: [60.0, [1], 1, False] for key in request["streams"]}, "cpu_s": 0.0}


async def test_streams_that_are_shed_are_told_that_they_have_no_rate() -> None:
    """Shown as "?" (honesty.test.ts); those that were there first keep theirs, none is late."""
    hearts, streams = Busy(), [live(number) for number in range(1, 9)]
    for one in streams:
        one.for_heart.append(b"x")
    hearts._process = SimpleNamespace()  # type: ignore[assignment] # the first answer of a new one is not judged
    hearts._adapt(8, 8, 2 * LATE_S)
    await hearts._tick(streams)
    rates = {rate.stream_id: (rate.bpm, rate.unsure) for rate in hearts.told}
    assert rates == {n: (60.0, False) if n <= 8 // (2 * LATE_S) else (None, True) for n in range(1, 9)}
    assert not any(one.for_heart for one in streams), "nothing gathers for whoever is not served"
    for _ in range(8):
        hearts.told.clear()
        await hearts._tick(streams)
    assert [rate.bpm for rate in hearts.told] == [60.0] * 8
