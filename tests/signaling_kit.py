"""Builders and the in-memory media plane that the signalling tests share."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from signaling.core import messages as m
from signaling.core.admission import Admission
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import ConsultId, ParticipantId, PatientId, ProducerId, TransportId
from signaling.core.model import (
    Consult,
    Identifier,
    JsonObject,
    MediaSource,
    PatientBanner,
    Role,
    VitalsStream,
    WaveformStream,
)
from signaling.core.ports import MediaListener

CONSULT = ConsultId("c1")
CAPABILITIES: JsonObject = {"codecs": [{"mimeType": "audio/opus"}], "headerExtensions": []}


def patient(name: str = "p1", *, test: bool = True) -> PatientBanner:
    return PatientBanner(
        id=PatientId(name),
        name=f"患者{name}",
        sex="female",
        birth_date="1957-03-01",
        identifiers=(Identifier(label="MRN", value=name), Identifier(label="ID", value=f"x{name}")),
        test=test,
    )


PATIENTS = (patient("p1"), patient("p2"), patient("real", test=False))


def admission(name: str, role: Role = Role.DOCTOR, *, consult: str = CONSULT, simulated: bool = False) -> Admission:
    return Admission(
        consult=ConsultId(consult),
        participant=ParticipantId(name),
        role=role,
        name=name.upper(),
        hospital="H1",
        simulated=simulated,
    )


def consult(limit: int = 50) -> Consult:
    return Consult(id=CONSULT, title="心内科会诊", limit=limit)


def waveform(stream_id: int = 7, of: str = "p1", *, simulated: bool = True) -> WaveformStream:
    return WaveformStream(
        stream_id=stream_id,
        leads=("I", "II"),
        sample_rate_mhz=500_000,
        lsb_nv=1_000,
        device="monitor",
        simulated=simulated,
        patient=PatientId(of),
    )


def produce(source: MediaSource = MediaSource.CAMERA, transport: str = "t") -> m.Produce:
    return m.Produce(transport=TransportId(transport), kind="video", rtp_parameters={}, source=source)


def produce_data(wave: WaveformStream | None = None, label: str = "ecg", transport: str = "t") -> m.ProduceData:
    return m.ProduceData(
        transport=TransportId(transport),
        label=label,
        sctp_stream_parameters={"streamId": 0},
        waveform=wave,
    )


def vitals(of: str = "p1", *, simulated: bool = True) -> VitalsStream:
    return VitalsStream(device="monitor", simulated=simulated, patient=PatientId(of))


def produce_vitals(source: VitalsStream | None = None, transport: str = "t") -> m.ProduceData:
    return m.ProduceData(
        transport=TransportId(transport),
        label="vitals",
        sctp_stream_parameters={"streamId": 1},
        vitals=source or vitals(),
    )


def bind_device(device: str = "monitor", of: str = "p1", version: int = 1, *, minutes: int = 240) -> m.BindDevice:
    """The right identifiers of a patient of the kit, as a scanner may give them."""
    return m.BindDevice(
        device=ParticipantId(device),
        patient=PatientId(of),
        context_version=version,
        confirmed=(f" {of.upper()}", f"Ｘ{of}\r"),
        minutes=minutes,
    )


@dataclass
class MemoryMedia:
    """`signaling.core.ports.MediaPlane` that keeps ids and moves nothing; transports and ownership are real."""

    consults: set[ConsultId] = field(default_factory=set)
    owned: dict[str, ParticipantId] = field(default_factory=dict)
    """Owner by id of transport, producer or data producer."""
    released: list[ParticipantId] = field(default_factory=list)
    calls: list[m.MediaCommand] = field(default_factory=list)
    failing: Refusal | None = None
    gate: asyncio.Event | None = None
    """When set, calls wait for it."""
    listener: MediaListener | None = None

    async def open(self, consult: ConsultId) -> JsonObject:
        if self.failing is not None:
            raise self.failing
        self.consults.add(consult)
        return CAPABILITIES

    async def call(self, consult: ConsultId, participant: ParticipantId, command: m.MediaCommand) -> m.MediaResult:
        self.calls.append(command)
        if self.gate is not None:
            await self.gate.wait()
        if self.failing is not None:
            raise self.failing
        match command:
            case m.CreateTransport():
                return self._transport(participant)
            case m.Produce():
                return m.Produced(producer=ProducerId(self._new(participant)))
            case m.ProduceData():
                return m.DataProduced(data_producer=self._new(participant))
            case m.Consume():
                return m.Consuming(
                    consumer=self._new(participant),
                    producer=command.producer,
                    kind="video",
                    rtp_parameters={},
                    producer_paused=False,
                )
            case m.CloseProducer():
                self._close(participant, command.producer)
            case m.CloseDataProducer():
                self._close(participant, command.data_producer)
        return m.Done()

    async def release(self, consult: ConsultId, participant: ParticipantId) -> None:
        self.released.append(participant)
        self.owned = {identity: owner for identity, owner in self.owned.items() if owner != participant}

    async def close(self, consult: ConsultId) -> None:
        self.consults.discard(consult)

    def listen(self, listener: MediaListener) -> None:
        self.listener = listener

    def _transport(self, participant: ParticipantId) -> m.TransportOptions:
        return m.TransportOptions(
            id=TransportId(self._new(participant)),
            ice_parameters={},
            ice_candidates=({"ip": "127.0.0.1"},),
            dtls_parameters={},
            sctp_parameters={},
            media_epoch=0,
        )

    def _new(self, participant: ParticipantId) -> Any:
        identity = secrets.token_hex(4)
        self.owned[identity] = participant
        return identity

    def _close(self, participant: ParticipantId, identity: str) -> None:
        if self.owned.get(identity) != participant:
            raise Refusal(ErrorCode.NOT_FOUND)
        del self.owned[identity]


async def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Wait for a condition; fail when it does not come true in time."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError("condition did not come true")
        await asyncio.sleep(0.005)
