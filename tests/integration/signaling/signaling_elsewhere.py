"""A consult service without sockets: its listeners, and a store that other nodes write to and that may fail."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import reduce
from typing import Any

import msgpack

from signaling.aio.memory import MemoryStore
from signaling.aio.service import ConsultService
from signaling.core import messages as m
from signaling.core.admission import Admission
from signaling.core.consult import Known, apply, handle
from signaling.core.errors import Refusal
from signaling.core.ids import ConsultId, ParticipantId
from signaling.core.messages import EVENTS, AnyEvent
from signaling.core.model import Consult, Role
from tests.signaling_kit import CONSULT, PATIENTS, admission

ELSEWHERE = admission("elsewhere", Role.NURSE)
"""A participant on another node."""


class Listener:
    """A peer that keeps what it was told and folds it."""

    def __init__(self, admitted: Admission) -> None:
        self.admission = admitted
        self.state: Consult | None = None
        self.events: list[AnyEvent] = []
        self.signals: list[dict[str, Any]] = []
        self.reasons: list[str] = []
        self.goodbye_reason: str | None = None
        self.hears = True

    def deliver(self, frame: bytes, key: str | None = None) -> None:
        name, payload = msgpack.unpackb(frame)["data"]
        if name == "signal":
            self.signals.append(payload)
        else:
            self.events.append(EVENTS.validate_python(payload))

    def hold_events(self) -> None:
        """`test_signaling_consult` checks the order on the wire."""

    def goodbye(self, reason: str) -> None:
        self.reasons.append(reason)
        self.goodbye_reason = reason

    def present(self) -> Consult:
        assert self.state is not None
        return reduce(apply, self.events, self.state)


class Elsewhere(MemoryStore):
    """A store that another node writes to, and that may fail."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.rng = random.Random(seed)
        self.meddling = 0.0
        self.failing = False
        self.failures = 0.0
        self.deaf = False
        """What is committed is stored, and nobody learns it."""
        self.failed = 0
        """Times someone was turned away."""

    async def commit(
        self, before: Consult, after: Consult, events: Sequence[AnyEvent], actor: ParticipantId | None, node: str = ""
    ) -> None:
        await asyncio.sleep(0)
        if self.failing or self.rng.random() < self.failures:
            self.failed += 1
            raise OSError("disk on fire")
        if self.rng.random() < self.meddling:
            await self.meddle()
        await super().commit(before, after, events, actor, node)
        if self.deaf:
            raise OSError("connection lost")

    async def events_since(self, consult: ConsultId, revision: int, limit: int) -> Sequence[AnyEvent] | None:
        if self.failing:
            self.failed += 1
            raise OSError("disk on fire")
        return await super().events_since(consult, revision, limit)

    async def meddle(self, command: m.AnyCommand | None = None, *, by: Admission = ELSEWHERE) -> None:
        """Another node commits something."""
        state = await self.load(CONSULT)
        assert state is not None
        if by.participant not in state.participants:
            command = m.Join()
        patient = self.rng.choice(PATIENTS)
        command = command or m.OpenContext(patient=patient.id)
        with contextlib.suppress(Refusal):
            events = handle(state, by, command, 1, Known(patient=patient))
            await super().commit(state, reduce(apply, events, state), events, by.participant)


MakeService = Callable[..., Awaitable[ConsultService]]


async def join(service: ConsultService, name: str, role: Role = Role.DOCTOR) -> Listener:
    listener = Listener(admission(name, role))
    joined = await service.execute(listener, m.Join())
    assert isinstance(joined, m.Joined)
    listener.state = joined.snapshot
    return listener
