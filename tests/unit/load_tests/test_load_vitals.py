"""Numbers of a simulated bedside monitor: as many and as sound as the product's own device program sends them."""

from __future__ import annotations

from collections import Counter

from load_tests.report.ledger import Ledger
from load_tests.session import vitals
from media.core.waveform.vitals import VitalSign, read_vital


async def test_a_monitor_measures_as_the_product_s_simulator_does() -> None:
    ledger, sent = Ledger(), list[bytes]()

    def send(message: bytes) -> bool:
        sent.append(message)
        return True

    source = vitals.VitalSource(7, ledger, 0)
    source.close()  # seconds are counted by hand, not by the clock
    source.attach(send)
    assert not sent
    for _ in range(vitals.CYCLE_S):
        source._tick()
        source.close()
    numbers = [read_vital(message) for message in sent]  # raises on what no relay would pass on
    codes = Counter(one.code for one in numbers if isinstance(one, VitalSign))
    second, two = range(vitals.CYCLE_S - 2, vitals.CYCLE_S + 1), range(vitals.CYCLE_S // 2 - 1, vitals.CYCLE_S // 2 + 2)
    assert all(codes[code] in second for code in ("HR", "Pulse", "SpO2"))
    assert all(codes[code] in two for code in ("Resp", "Temp"))
    assert codes["NIBP"] == 1
    assert all(one.simulated and one.context_version == 7 for one in numbers)  # [W9] (W8)
    assert ledger.counts["vitals_out"] == len(sent)

    source.detach()
    source._tick()
    source.close()
    sent.clear()
    source.attach(send)  # the newest of each goes out again on the next path, once
    assert sorted(one.code for one in map(read_vital, sent) if isinstance(one, VitalSign)) == sorted(codes)
