"""What the hub sends to the hospital's system, over MLLP: one connection, one message at a time, each until its ACK.

AA (or CA) is durable at the other side. AR and CR are final. AE and CE may pass (a locked record, a full disk) and are
tried again a bounded number of times, since what waits behind them waits too. Everything else, silence included, is a
lost connection: the same bytes go again under the same control id, by which the receiver can tell a repeat.

A message that keeps its interface busy is named: after `HELD_UP_AFTER` deliveries without an end the log has its
control id once, and ``consilium_gateway_held_up_deliveries`` counts on. A system that takes every message but this
one and never answers it cannot be told from one that is out of order: whether to give it up is the integrator's word
(`MllpTarget.silent_attempts`).

An ACK for another control id is an old one that came too late; it is counted and passed over.
"""

import asyncio
import contextlib
import json
import ssl
from dataclasses import dataclass
from typing import Any, Final

import structlog

from server.gateway.adapters import counts
from server.gateway.adapters.keepalive import keep_alive
from server.gateway.core.crossing import FHIR_JSON, Crossing, DeliveryFailed
from server.gateway.hl7v2.acks import Ack, Answer, answer_in
from server.gateway.hl7v2.framing import Deframer, Framed, frame
from server.gateway.hl7v2.outgoing import CannotBuild, Destination, build, control_id

log = structlog.get_logger(__name__)

READ_BYTES: Final = 64 * 1024
MAX_ANSWER_BYTES: Final = 256 * 1024
MAX_STRAY_ANSWERS: Final = 100
HELD_UP_AFTER: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class MllpTarget:
    """Where to and how patiently."""

    name: str
    host: str
    port: int
    destination: Destination
    tls: ssl.SSLContext | None = None
    connect_s: float = 10
    answer_s: float = 60
    ae_attempts: int = 10
    """Deliveries of one message that may end in AE before it is refused for good."""
    silent_attempts: int = 0
    """Deliveries of one message that went out whole and were not answered before it is refused for good; 0: it is
    tried for ever."""


class _Lost(Exception):
    """The connection is of no more use."""


@dataclass(slots=True)
class _Trouble:
    """With one message: how often it was tried, and how that ended."""

    key: str = ""
    deliveries: int = 0
    refused: int = 0
    silent: int = 0


class MllpSender:
    """See the module; an `Inlet`."""

    kinds: frozenset[str] = frozenset({"ORU^R01", "MDM^T02"})

    def __init__(self, target: MllpTarget) -> None:
        self.name = target.name
        self._target = target
        self._lock = asyncio.Lock()
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._deframer = Deframer(MAX_ANSWER_BYTES)
        self._trouble = _Trouble()

    async def deliver(self, crossing: Crossing) -> None:
        """See `Inlet`."""
        body = await asyncio.to_thread(self._message, crossing)
        if self._trouble.key != crossing.key:
            self._trouble = _Trouble(key=crossing.key)
        try:
            await self._deliver(body, control_id(crossing.key))
        except DeliveryFailed as failed:
            if failed.retry:
                self._name(failed, control_id(crossing.key))
            else:
                self._settled()
            raise
        self._settled()

    async def _deliver(self, body: bytes, wanted: str) -> None:
        trouble = self._trouble
        trouble.deliveries += 1
        async with self._lock:
            answer = await self._exchange(body, wanted)
        counts.SENT.labels(self.name, answer.code.value).inc()
        if answer.code in (Ack.AA, Ack.CA):
            return
        if answer.code in (Ack.AR, Ack.CR):
            raise DeliveryFailed(retry=False, reason="hospital_rejects")
        trouble.refused += 1
        raise DeliveryFailed(retry=trouble.refused < self._target.ae_attempts, reason="hospital_error")

    def _name(self, failed: DeliveryFailed, wanted: str) -> None:
        counts.HELD_UP.labels(self.name).set(self._trouble.deliveries)
        if self._trouble.deliveries == HELD_UP_AFTER:
            log.error(
                "a message holds up this interface", inlet=self.name, control_id=wanted, reason=failed.reason,
                deliveries=self._trouble.deliveries,
            )  # fmt: skip

    def _settled(self) -> None:
        if self._trouble.deliveries > 1:
            counts.HELD_UP.labels(self.name).set(0)
        self._trouble = _Trouble()

    async def close(self) -> None:
        """Hang up."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream[1].close()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(stream[1].wait_closed(), 5)

    def _message(self, crossing: Crossing) -> bytes:
        try:
            if crossing.media_type != FHIR_JSON:
                raise CannotBuild("media type")
            bundle: Any = json.loads(crossing.body)
            if not isinstance(bundle, dict):
                raise CannotBuild("bundle")
            to = self._target.destination
            return build(crossing.kind, bundle, crossing.patient, crossing.key, crossing.made_us, to)
        except (CannotBuild, ValueError, RecursionError):
            counts.SENT.labels(self.name, "unbuilt").inc()
            raise DeliveryFailed(retry=False, reason="cannot_be_said_in_hl7") from None

    async def _exchange(self, body: bytes, wanted: str) -> Answer:
        """Send until an answer came, over a new connection where the old one turns out to be dead."""
        sent = False
        for attempt in (1, 2):
            reused = self._stream is not None
            try:
                return await self._once(body, wanted)
            except (_Lost, OSError, TimeoutError):
                sent = self._stream is not None
                await self.close()
                if not reused or attempt == 2:
                    break
            except asyncio.CancelledError:
                await self.close()  # an answer that is still to come must not be read as the next message's
                raise
        counts.SENT.labels(self.name, "lost").inc()
        if not sent:
            raise DeliveryFailed(retry=True, reason="hospital_unreachable")
        self._trouble.silent += 1
        allowed = self._target.silent_attempts
        raise DeliveryFailed(retry=not allowed or self._trouble.silent < allowed, reason="hospital_silent")

    async def _once(self, body: bytes, wanted: str) -> Answer:
        target = self._target
        if self._stream is None:
            async with asyncio.timeout(target.connect_s):
                self._stream = await asyncio.open_connection(target.host, target.port, ssl=target.tls, limit=READ_BYTES)
            keep_alive(self._stream[1])
            self._deframer = Deframer(MAX_ANSWER_BYTES)
        reader, writer = self._stream
        async with asyncio.timeout(target.answer_s):
            writer.write(frame(body))
            await writer.drain()
            for _ in range(MAX_STRAY_ANSWERS):
                for answer in await self._answers(reader):
                    if answer.control_id == wanted:
                        return answer
                    counts.TOLERATED.labels(self.name, "stray_answer").inc()
        raise _Lost

    async def _answers(self, reader: asyncio.StreamReader) -> list[Answer]:
        data = await reader.read(READ_BYTES)
        if not data:
            raise _Lost
        found = []
        for framed in self._deframer.feed(data):
            charset = self._target.destination.charset
            answer = answer_in(framed.body, default_charset=charset) if isinstance(framed, Framed) else None
            if answer is None:
                counts.TOLERATED.labels(self.name, "unreadable_answer").inc()
            else:
                found.append(answer)
        return found
