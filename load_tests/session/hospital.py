"""A system inside a partner hospital: sends HL7 v2 over MLLP to its gateway at a rate, and insists on each answer.

One connection, one message outstanding, as MLLP's minimal lower layer asks of a sender: a message that was not
answered AA goes again under the same control id, so what the hospital believes is delivered is exactly what was
answered. The mix is a laboratory's and an admission desk's: six results, three updates of a patient, one order in ten.
All patients are test patients (MSH-11 is T). [W9]
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

from load_tests.plan.timetable import Planned
from load_tests.session.consult import ConsultView
from load_tests.session.participant import Outage, Setting
from load_tests.session.path import Path

MRN, ID = "urn:consilium:load:mrn", "urn:consilium:load:id"
KINDS: Final = ("ORU^R01", "ADT^A08", "ORU^R01", "ORU^R01", "ADT^A08", "ORU^R01", "ORM^O01", "ORU^R01", "ADT^A08",
                "ORU^R01")  # fmt: skip
HEADS: Final = {"ORU^R01": ("LIS", "ORU_R01"), "ADT^A08": ("HIS", "ADT_A01"), "ORM^O01": ("HIS", "ORM_O01")}
ANSWER_S: Final = 20.0
AGAIN_S: Final = 0.5
FINISH_S: Final = 8.0
"""At the end the message that is under way is waited for, or nobody would know whether it counts."""
MOST_ANSWER_BYTES: Final = 64 << 10


class HospitalSystem:
    """One sending system; to its generator it looks like any other session."""

    def __init__(self, plan: Planned, setting: Setting) -> None:
        self.plan = plan
        self.path = Path(plan.line, plan.seed, setting.ledger)
        self.view = ConsultView()
        self.picture, self.wave = Outage("picture_back_ms"), Outage("wave_back_ms")
        self.joined = False
        """Its gateway has answered."""
        self._ledger = setting.ledger
        self._port = setting.hospitals[plan.consult % len(setting.hospitals)]
        self._consult = setting.world.consults[plan.consult]
        self._stopping = asyncio.Event()
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self) -> None:
        """Send until cancelled; what is under way then is finished first, within bounds."""
        work = asyncio.create_task(self._work())
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            self._stopping.set()
            await asyncio.wait({work}, timeout=FINISH_S)
            if not work.done():
                self._ledger.count("lock_unsure")
            raise
        finally:
            work.cancel()
            self._hang_up()

    def watch(self, now_s: float) -> None:
        """Nothing is shown to a sender."""

    async def _work(self) -> None:
        every_s, number = 1 / self.plan.behaviour.messages_per_s, 0
        due_s = time.monotonic()
        while not self._stopping.is_set():
            number += 1
            control = f"S{self.plan.number}N{number}"
            await self._deliver(control, self.message(control, number))
            due_s += every_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due_s - time.monotonic())):
                    await self._stopping.wait()

    async def _deliver(self, control: str, message: bytes) -> None:
        """One message, again and again until it is answered for good."""
        began = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(ANSWER_S):
                    answer = await self._exchange(message)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as problem:
                self._hang_up()
                answer = type(problem).__name__.encode()
            if f"MSA|AA|{control}".encode() in answer:
                self.joined = True
                self._ledger.count("lock_taken")
                self._ledger.add("hl7_ack_ms", (time.monotonic() - began) * 1000)
                return
            if b"MSA|AR|" in answer:  # of no use again
                place = next((part for part in answer.split(b"\r") if part.startswith(b"ERR")), b"AR")
                self._ledger.error(f"hospital refused: {place[:60].decode('ascii', 'replace')}")
                return
            self._ledger.count("lock_sent_again")
            await asyncio.sleep(AGAIN_S)

    async def _exchange(self, message: bytes) -> bytes:
        if self._connection is None:
            self._connection = await asyncio.open_connection("127.0.0.1", self._port, limit=MOST_ANSWER_BYTES)
        reader, writer = self._connection
        writer.write(b"\x0b" + message + b"\x1c\r")
        await writer.drain()
        return await reader.readuntil(b"\x1c\r")

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection[1].close()
            self._connection = None

    def message(self, control: str, number: int) -> bytes:
        """The next of the mix, about this consult's patient."""
        kind = KINDS[(number - 1) % len(KINDS)]
        (app, structure), at = HEADS[kind], time.strftime("%Y%m%d%H%M%S+0000", time.gmtime())
        first, second = self._consult.identifiers
        of = self._consult.patient.rpartition("-")[2]
        lines = [
            f"MSH|^~\\&|{app}|LOAD|CONSILIUM|HUB|{at}||{kind}^{structure}|{control}|T|2.5.1||||||UNICODE UTF-8",
            *([f"EVN||{at}"] if kind.startswith("ADT") else []),
            f"PID|1||{first}^^^HIS^MR~{second}^^^ID^NI||测试{of}^||19570301|F|||Road {number}^^Jiaxing^^314500^CN",
        ]
        match kind:
            case "ADT^A08":
                lines.append("PV1|1|O")
            case "ORM^O01":
                lines += [f"ORC|NW|{control}^HIS", f"OBR|1|{control}^HIS||24725-4^CT head^LN"]
            case _:
                value = round(3.5 + number % 18 / 10, 1)
                lines += [
                    f"OBR|1||{control}^LIS|K^Potassium^L|||{at}|||||||||||||||{at}||LAB|F",
                    f"OBX|1|NM|2823-3^Potassium^LN||{value}|mmol/L|3.5-5.3|N|||F|||{at}",
                ]
        return ("\r".join(lines) + "\r").encode()
