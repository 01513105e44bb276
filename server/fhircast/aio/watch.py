"""A consult that programs follow: its state as they have been told it, and the resources that a notice holds.

The store is the truth and the bus a hint: hints wake `catch_up`, and so does the service's driver every two seconds.
"""

import asyncio
from collections.abc import Iterable

from server.fhircast.core.notices import Notice, needed, notices_of
from server.record.aio.store import find_one
from server.storage.database import Database
from signaling.core.fold import apply
from signaling.core.messages import AnyEvent
from signaling.core.model import Consult, JsonObject, Request

CATCH_UP_EVENTS = 200
"""Who missed more is told what is open now."""


MAX_ASKED = 512
"""Requests of which it is remembered that they were carried out; who repeats one does so within seconds."""


class Topic:
    """One consult under its topic."""

    def __init__(self, name: str, state: Consult) -> None:
        self.name = name
        self.state = state
        self.lock = asyncio.Lock()
        """Held from reading the store to telling, so that notices leave in the order of revisions."""
        self.resources: dict[str, JsonObject] = {}
        self.is_loaded = False
        """``resources`` are there; until then no notice may be made."""
        self.hinted = False
        self.driving = asyncio.Lock()
        """Held by the program whose event is carried out: a request that is sent twice finds the first one done."""
        self.asked: dict[str, str] = {}
        """Ids of requests that were carried out, and of what, newest last."""

    async def load_resources(self, database: Database, state: Consult) -> None:
        """What notices about this state may hold. Gone ones stay, for the notice that closes them."""
        if state.context is None:
            self.is_loaded = True
            return
        async with database.read() as session:
            for reference in needed(state):
                kind, _, id_ = reference.partition("/")
                found = await find_one(session, state.context.patient.id, kind, id_)
                if found is not None:
                    self.resources[reference] = found
        self.is_loaded = True

    async def fold(self, database: Database, event: AnyEvent) -> list[Notice]:
        """Take in one event; what the programs are to be told of it."""
        after = apply(self.state, event)
        if after.context_version != self.state.context_version or after.opens != self.state.opens:
            await self.load_resources(database, after)
        notices = notices_of(self.name, self.state, event, after, self.resources)
        request = getattr(event, "request", None)
        if isinstance(request, Request):
            self._remember(request)
        self.state = after
        self._forget(needed(after))
        return notices

    def jump(self, state: Consult) -> None:
        """Too much was missed to tell it one by one."""
        self.state = state

    def _remember(self, request: Request) -> None:
        self.asked.pop(request.id, None)
        self.asked[request.id] = request.event
        while len(self.asked) > MAX_ASKED:
            del self.asked[next(iter(self.asked))]

    def _forget(self, wanted: Iterable[str]) -> None:
        keep = set(wanted)
        self.resources = {reference: one for reference, one in self.resources.items() if reference in keep}
