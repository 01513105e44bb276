"""DTLS after the handshake: records in and out without aiortc's pump, against OpenSSL at both ends."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from media.aio.aiortc_port import Certificate, DtlsPort
from media.core.ortc_transport import DtlsParameters
from tests.integration.media.peer import until


class Ends:
    """Two ports joined by hand: what one sends waits in a list."""

    def __init__(self) -> None:
        self.wire: dict[str, list[bytes]] = {"client": [], "server": []}
        self.over: list[str] = []
        self.got: list[bytes] = []
        certificates = {"client": Certificate(), "server": Certificate()}
        self.ports = {
            role: DtlsPort(certificates[role], self.wire[role].append, lambda role=role: self.over.append(role))  # type: ignore[misc]
            for role in ("client", "server")
        }
        self.fingerprints = {role: one.sha256_fingerprint() for role, one in certificates.items()}
        self.carrying = True
        self._carrier = asyncio.create_task(self._carry())

    async def _carry(self) -> None:
        while True:
            if self.carrying:
                self.carry()
            await asyncio.sleep(0)

    def carry(self) -> None:
        for role, other in (("client", "server"), ("server", "client")):
            waiting, self.wire[role][:] = self.wire[role][:], []
            for datagram in waiting:
                assert self.ports[other].offer(datagram)

    async def handshake(self) -> None:
        async with asyncio.timeout(60):
            await asyncio.gather(
                *(
                    self.ports[role].handshake(DtlsParameters(role, "sha-256", self.fingerprints[other]))  # type: ignore[arg-type]
                    for role, other in (("client", "server"), ("server", "client"))
                )
            )

    async def close(self) -> None:
        for port in self.ports.values():
            await port.close()
        self._carrier.cancel()
        await asyncio.gather(self._carrier, return_exceptions=True)


@pytest_asyncio.fixture
async def ends() -> AsyncIterator[Ends]:
    made = Ends()
    await made.handshake()
    made.ports["server"].on_data(made.got.append)
    yield made
    await made.close()


async def test_data_of_any_length_that_fits(ends: Ends) -> None:
    messages = [bytes([n % 256]) * n for n in (1, 100, 1192, 1400)]
    for message in messages:
        assert ends.ports["client"].send(message)
    await until(lambda: len(ends.got) == 4, "all data")
    assert ends.got == messages


async def test_several_records_in_one_datagram(ends: Ends) -> None:
    """A peer may put them together (RFC 6347 section 4.1.1), with a handshake message between them or not."""
    ends.carrying = False
    for number in range(5):
        ends.ports["client"].send(bytes([number]) * 10)
    joined = b"".join(ends.wire["client"])
    ends.wire["client"].clear()
    assert ends.ports["server"].offer(joined)
    await until(lambda: len(ends.got) == 5, "all five")
    assert ends.got == [bytes([n]) * 10 for n in range(5)]


async def test_nonsense_replays_and_forgeries_are_dropped(ends: Ends) -> None:
    ends.carrying = False
    ends.ports["client"].send(b"good")
    (record,) = ends.wire["client"]
    ends.wire["client"].clear()
    forged = record[:-1] + bytes([record[-1] ^ 1])
    for datagram in (forged, record, record, record[:20], record[:13], b"\x17", b"\x17" * 100, b"\x16" + bytes(60)):
        assert ends.ports["server"].offer(datagram)
    ends.ports["client"].send(b"last")
    ends.carrying = True
    await until(lambda: b"last" in ends.got, "what came after them")
    assert ends.got == [b"good", b"last"]
    assert ends.over == []


async def test_a_goodbye_is_told_once(ends: Ends) -> None:
    await ends.ports["client"].close()
    await until(lambda: ends.over, "the news")
    assert ends.over == ["server"]
    assert not ends.ports["server"].send(b"x")
    assert not ends.ports["client"].send(b"x")


async def test_what_waits_is_bounded(ends: Ends) -> None:
    """Between two turns of the loop a flood meets a queue of 64."""
    taken = [ends.ports["server"].offer(b"\x17" + bytes(40)) for _ in range(100)]
    assert taken == [True] * 64 + [False] * 36
