"""Which Transport a datagram belongs to, and what it is (RFC 7983).

Everything arrives on one port number, over UDP or framed on a TCP connection. A datagram that is empty,
longer than any path carries, or from an address no Transport has learnt is dropped here, counted and not
logged; only STUN is looked at from strangers, and an address is learnt only after its MESSAGE-INTEGRITY was
verified. One unauthenticated datagram must never end a call (MEDIA_PLANE d1).
"""

import socket
from collections.abc import Hashable
from typing import Protocol

from media.aio import stun
from media.aio.aiortc_port import NativeBuffer
from media.aio.counters import Counters
from media.aio.stun import SteadyCheck
from media.aio.tcp import StreamAddress
from media.aio.transport import Transport
from media.aio.udp import UdpPort
from media.core.framing import MAX_FRAME_BYTES as MAX_DATAGRAM_BYTES
from media.core.ice import Address, CheckOutcome
from media.core.strangers import StrangerLimit, claimed_ufrag

_NOTHING_NEW = CheckOutcome()


class MediaSink(Protocol):
    """Takes what is protected by SRTP keys."""

    def srtp(self, transport: Transport, offset: int, size: int, now_us: int) -> None:
        """One SRTP or SRTCP packet in the receive buffer, from a Transport whose keys are known."""


class AddressWatch(Protocol):
    """Is told what comes from whom."""

    def learn(self, address: Address, transport: Transport) -> None:
        """The address is this Transport's."""

    def forget(self, address: Address, transport: Transport) -> None:
        """It is no longer; it may be told of addresses it has not been told of before."""

    def answer(self, address: Address, transport: Transport, steady: SteadyCheck) -> None:
        """The same check again, whatever its transaction, may be answered so."""


class Mux:
    """Address and ufrag tables of one worker."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._by_ufrag: dict[str, Transport] = {}
        self._by_address: dict[Address, Transport] = {}
        self._steady: dict[Address, tuple[SteadyCheck, Transport]] = {}
        """What is answered without a closer look, of addresses in use."""
        self._strangers = StrangerLimit()
        self._udp: UdpPort | None = None
        self._media: MediaSink | None = None
        self._buffer: NativeBuffer | None = None
        self.watch: AddressWatch | None = None

    def attach(self, udp: UdpPort, media: MediaSink) -> None:
        """Give it its socket and the receiver of media, which both need it first."""
        self._udp, self._media, self._buffer = udp, media, udp.buffer

    def add(self, transport: Transport, ufrag: str) -> None:
        """Checks with this ufrag belong to the Transport."""
        self._by_ufrag[ufrag] = transport

    def retire(self, ufrags: list[str]) -> None:
        """These credentials are no longer valid."""
        for ufrag in ufrags:
            transport = self._by_ufrag.pop(ufrag, None)
            if transport is not None:
                self._hear_checks(transport)

    def remove(self, transport: Transport) -> None:
        """Forget a Transport; idempotent."""
        self.retire(transport.ice.ufrags)
        for address in transport.ice.addresses:
            if self._by_address.get(address) is transport:
                self._forget(address)

    def closed(self, address: StreamAddress) -> None:
        """A connection is over: its Transport has one path less."""
        transport = self._by_address.pop(address, None)
        if transport is not None:
            transport.forget_address(address)

    def send(self, datagram: bytes, address: Address) -> bool:
        """Send one datagram that is not media to a peer; False when it was dropped."""
        if isinstance(address, StreamAddress):
            return address.stream.send(datagram)
        assert self._udp is not None
        return self._udp.send(datagram, address)

    def knows_ufrag(self, ufrag: str) -> bool:
        """The ufrag is in use."""
        return ufrag in self._by_ufrag

    def datagram(self, offset: int, size: int, address: Address, now_us: int) -> None:
        """Dispatch one datagram of the receive buffer."""
        assert self._buffer is not None
        assert self._media is not None
        if size == 0:
            self._counters.add("datagrams_empty")
            return
        if size > MAX_DATAGRAM_BYTES:
            self._counters.add("datagrams_oversize")
            return
        first = self._buffer.data[offset]
        transport = self._by_address.get(address)
        if transport is not None and 128 <= first < 192:
            if transport.leg.rx is None:
                self._counters.add("srtp_before_keys")
            else:
                self._media.srtp(transport, offset, size, now_us)
        elif first < 4:
            self._stun(bytes(self._buffer.view[offset : offset + size]), address, now_us)
        elif transport is None:
            self._counters.add("datagrams_unknown_address")
        elif 20 <= first < 64:
            transport.offer_dtls(bytes(self._buffer.view[offset : offset + size]))
        else:
            self._counters.add("datagrams_unknown_kind")

    def _forget(self, address: Address) -> None:
        """The address is nobody's."""
        transport = self._by_address.pop(address)
        self._steady.pop(address, None)
        if self.watch is not None:
            self.watch.forget(address, transport)

    def _keep_answering(self, check: bytes, address: Address, transport: Transport, password: str) -> None:
        """[IN4] This check has changed nothing; neither will it in its next transaction, which takes a shorter way."""
        steady = None if isinstance(address, StreamAddress) else stun.steady_check(check, address, password)
        if steady is not None:
            self._steady[address] = steady, transport
            if self.watch is not None:
                self.watch.answer(address, transport, steady)

    def _hear_checks(self, transport: Transport) -> None:
        """What checks of this Transport mean may be another now."""
        for address in transport.ice.addresses:
            self._steady.pop(address, None)
        if transport.leg.intake is not None:
            transport.leg.intake.hear_checks()

    def _repeated(self, datagram: bytes, address: Address, now_us: int) -> bool:
        """The check that this address repeats all the time; it was answered."""
        known = self._steady.get(address)
        answer = None if known is None else known[0].answer(datagram)
        if known is None or answer is None:
            return False
        self._counters.values["stun_checks"] += 1
        known[1].ice.checked_again(address, now_us // 1000)
        self.send(answer, address)
        return True

    def _authentic(self, datagram: bytes, ufrag: str, transport: Transport) -> stun.BindingRequest | None:
        """The check, when it was made with the Transport's password."""
        try:
            request = stun.parse_binding_request(datagram)
        except stun.BadStun:
            self._counters.add("stun_malformed")
            return None
        password = transport.ice.password(ufrag)
        if password is None or request.ufrag != ufrag or not stun.authenticate(request, password):
            self._counters.add("stun_bad_integrity")
            return None
        return request

    def _stun(self, datagram: bytes, address: Address, now_us: int) -> None:
        if self._repeated(datagram, address, now_us):
            return
        claimed = claimed_ufrag(datagram)
        if claimed is None:
            self._counters.add("stun_malformed")
            return
        transport = self._by_ufrag.get(claimed)
        if transport is None:  # a flood of strangers ends here, before anything that costs
            self._counters.add("stun_unknown_ufrag")
            return
        source = None if address in self._by_address else source_of(address)
        if source is not None and not self._strangers.allows(source, now_us):
            self._counters.add("stun_limited")
            return
        request = self._authentic(datagram, claimed, transport)
        if request is None:
            if source is not None:
                self._strangers.charge(source, now_us)
            return
        password = transport.ice.password(claimed)
        assert password is not None
        other = self._by_address.get(address)
        if other is not transport:
            if other is not None:
                other.take_checks()
                if other.ice.holds(address, now_us // 1000):
                    self._counters.add("stun_address_held")  # a forged source must not cut off another participant
                    return
                self._forget(address)
                other.forget_address(address)
            self._by_address[address] = transport
            if self.watch is not None:
                self.watch.learn(address, transport)
        self._counters.add("stun_checks")
        if isinstance(address, StreamAddress):
            address.stream.trust()
        self.send(stun.build_success(request, address, password), address)
        outcome = transport.checked(request.ufrag, address, request.use_candidate, now_us // 1000)
        self.retire(outcome.retired_ufrags)
        if outcome.moved:
            self._hear_checks(transport)
        elif outcome == _NOTHING_NEW and address == transport.ice.selected:
            self._keep_answering(datagram, address, transport, password)
        if outcome.evicted is not None and self._by_address.get(outcome.evicted) is transport:
            self._forget(outcome.evicted)
            if isinstance(outcome.evicted, StreamAddress):
                outcome.evicted.stream.close()


def source_of(address: Address) -> Hashable:
    """Whom to hold responsible: a host, of IPv6 the network it has to itself (RFC 6177)."""
    host: str = address[0]
    if ":" not in host or host.startswith("::ffff:"):
        return host
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:8]
