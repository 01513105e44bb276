"""One peer's path: ICE-lite, then DTLS, then SRTP keys and perhaps SCTP.

A Transport is made by signalling, found by the first authenticated check, and handshakes once both
the peer's fingerprint and an address are known, in whichever order they come: pymediasoup
starts DTLS before its ``connect`` arrives, and always as server, so both roles work (ORTC trap 17). It ends
by signalling, by the peer's goodbye, or after 30 s without consent (counted from ``connect`` where none ever came).

What it carries is managed by ``relay`` and ``data``, which fill the tables here; packets go around this
object through its ``leg``.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, Literal, Protocol

from media.aio.aiortc_port import Certificate, DtlsFailed, DtlsPort
from media.aio.counters import Counters
from media.aio.objects import Consumer, InboundStream, Leg, Producer
from media.aio.sctp import SctpPort
from media.aio.tcp import StreamAddress
from media.aio.turns import Turns
from media.core.capture import CaptureClock
from media.core.control import MediaError, MediaErrorCode
from media.core.ice import Address, CheckOutcome, Consent, Credentials, IceLite
from media.core.ortc_transport import DtlsParameters
from media.core.sender_report import PublisherClock
from media.core.twcc import ArrivalRecorder

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 15.0
"""DTLS over a path that has just answered checks takes milliseconds; OpenSSL resends after 1, 2, 4 s."""

REPORT_TURNS = 10
"""Reports of a second leave in so many turns: those of all viewers at once would hold up the packets."""

TAPPED_RTP, TAPPED_RTCP, TAPPED_DATA = 1, 2, 3

_turns = count()
Direction = Literal["send", "recv"]
Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Tap(Protocol):
    """What a publisher sends is copied there: another worker (``pipe``)."""

    def offer(self, kind: int, packet: bytes) -> None:
        """One decrypted packet."""

    def data(self, identity: str, message: bytes | str) -> None:
        """One message of a DataProducer."""

    def close(self) -> None:
        """The Transport is gone; idempotent."""


class TransportEvents(Protocol):
    """What a Transport tells its relay."""

    def transport_ready(self, transport: "Transport") -> None:
        """SRTP keys are there."""

    def transport_moved(self, transport: "Transport") -> None:
        """Media goes to another address from now on, or to none until the next check."""

    def transport_failed(self, transport: "Transport") -> None:
        """It cannot go on: handshake failed, peer said goodbye, or its SCTP is hostile."""


class Transport:
    """One WebRTC transport of one participant."""

    def __init__(
        self,
        *,
        transport_id: str,
        router_id: str,
        owner: str,
        direction: Direction,
        credentials: Credentials,
        certificate: Certificate,
        send: Callable[[bytes, Address], bool],
        spawn: Spawn,
        counters: Counters,
        events: TransportEvents,
        turns: Turns | None = None,
    ) -> None:
        self.id = transport_id
        self.router_id = router_id
        self.owner = owner
        self.direction = direction
        self.ice = IceLite(credentials)
        self.leg = Leg()
        self.streams: dict[int, InboundStream] = {}
        """Known SSRCs the peer sends."""
        self.producers: dict[str, Producer] = {}
        self.consumers: dict[int, Consumer] = {}
        """By SSRC: that is how the peer's RTCP names them."""
        self.arrivals = ArrivalRecorder()
        self.twcc_id = 0
        """The peer's id of the transport-wide number, 0 as long as no Producer has named it."""
        self.heard: set[int] = set()
        """SSRCs that libsrtp holds a receiving context for, in use or not."""
        self.next_mid = 0
        self.waveforms = 0
        """Live waveforms that are sent to the peer."""
        self.publisher_clock = PublisherClock()
        self.capture_clock = CaptureClock()
        self.taps: list[Tap] = []
        """Other workers that get what comes here."""
        self.closed = False
        self.report_turn = next(_turns) % REPORT_TURNS
        """In which of the turns of a second its reports leave."""
        self.announced: Literal["connected", "unstable", "closed"] | None = None
        """Last state told to signalling."""
        self._send = send
        self._spawn = spawn
        self._counters = counters
        self._events = events
        self._remote: DtlsParameters | None = None
        self._handshake_task: asyncio.Task[None] | None = None
        self._dtls = DtlsPort(certificate, self._send_dtls, self._dtls_closed, turns)
        self._sctp: SctpPort | None = None

    @property
    def connected(self) -> bool:
        """DTLS is up."""
        return self.leg.tx is not None

    @property
    def sctp(self) -> SctpPort:
        """The association, made at first use; it starts as soon as DTLS is up (ORTC trap 23)."""
        if self._sctp is None:
            self._sctp = SctpPort(self._dtls, self._counters.add, self._abused)
            if self.connected:
                self._spawn(self._sctp.start())
        return self._sctp

    def connect(self, remote: DtlsParameters, now_ms: int) -> None:
        """Take the peer's fingerprints and role; its first check is due from now on.

        Raises:
            MediaError: ``bad_state`` when it was connected before.
        """
        if self._remote is not None:
            raise MediaError(MediaErrorCode.BAD_STATE, "the transport is already connected")
        self._remote = remote
        self.ice.expect(now_ms)
        self._begin_handshake()

    def checked(self, ufrag: str, address: Address, use_candidate: bool, now_ms: int) -> CheckOutcome:
        """Take in an authenticated check."""
        outcome = self.ice.check(ufrag, address, use_candidate, now_ms)
        if outcome.moved:
            self._aim()
            self._begin_handshake()
            if self.connected:
                self._events.transport_moved(self)
        return outcome

    def forget_address(self, address: Address) -> None:
        """Another Transport owns this address now, or it was a connection that is over."""
        self.ice.forget(address)
        if self.leg.address != self.ice.selected:
            self._aim()
            if not self.closed:
                self._events.transport_moved(self)

    def offer_dtls(self, datagram: bytes) -> None:
        """A DTLS record from a learnt address."""
        if not self._dtls.offer(datagram):
            self._counters.add("dtls_queue_full")

    def judge(self, now_ms: int) -> Consent:
        """Consent as of now."""
        self.take_checks()
        return self.ice.judge(now_ms)

    def take_checks(self) -> None:
        """Checks that were answered without coming here (``intake``) count as any: before somebody asks."""
        if self.leg.intake is not None:
            for address, checked_us in self.leg.intake.take_checks():
                self.ice.checked_again(address, checked_us // 1000)

    async def close(self) -> None:
        """Stop everything that runs; idempotent."""
        self.closed = True
        task, self._handshake_task = self._handshake_task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._sctp is not None:
            await self._sctp.stop()
        await self._dtls.close()
        self.leg.rx = self.leg.tx = self.leg.srtp = self.leg.address = self.leg.stream = None
        for address in self.ice.addresses:
            if isinstance(address, StreamAddress):
                address.stream.close()

    def _aim(self) -> None:
        """What is sent takes the selected path."""
        address = self.leg.address = self.ice.selected
        self.leg.stream = address.stream if isinstance(address, StreamAddress) else None

    def _begin_handshake(self) -> None:
        if self._remote is None or self.ice.selected is None or self._handshake_task is not None or self.closed:
            return
        self._handshake_task = asyncio.create_task(self._handshake(self._remote), name=f"dtls-{self.id}")

    async def _handshake(self, remote: DtlsParameters) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                srtp = await self._dtls.handshake(remote)
        except (DtlsFailed, TimeoutError):
            self._counters.add("dtls_failed")
            self._events.transport_failed(self)
            return
        except Exception:  # OpenSSL or aiortc choked on the peer's certificate or flight: only this peer is lost
            log.warning("handshake broke", extra={"transport": self.id}, exc_info=True)
            self._counters.add("dtls_failed")
            self._events.transport_failed(self)
            return
        self.leg.srtp, self.leg.rx, self.leg.tx = srtp, srtp.rx, srtp.tx
        self._counters.add("dtls_connected")
        log.info("transport up", extra={"transport": self.id, "srtp": self._dtls.srtp_profile()})
        if self._sctp is not None:
            await self._sctp.start()
        self._events.transport_ready(self)

    def _send_dtls(self, datagram: bytes) -> None:
        if self.leg.address is not None:
            self._send(datagram, self.leg.address)

    def _dtls_closed(self) -> None:
        self._events.transport_failed(self)

    def _abused(self) -> None:
        self._events.transport_failed(self)
