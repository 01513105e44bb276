"""What the media plane tells of its own accord; `signaling.core.ports.MediaListener`.

What the state says of media follows what has happened to them, whatever the store's trouble (`Changes.insist`); the
rest is a signal, and kept by nobody.
"""

from signaling.aio.changes import Changes
from signaling.aio.this_node import ThisNode
from signaling.core import occurrences
from signaling.core.consult import closed_sources
from signaling.core.ids import ConsultId, ParticipantId, ProducerId, TransportId
from signaling.core.messages import ActiveSpeaker, ConsumerLayers, LineQuality, TransportGone
from signaling.core.model import Connection


class MediaNews:
    """The media plane's listener."""

    def __init__(self, node: ThisNode, changes: Changes) -> None:
        self._node = node
        self._changes = changes

    async def media_reset(self, consult: ConsultId) -> None:
        """The worker of this consult was replaced. [ME4]"""
        audience = self._node.audiences.get(consult)
        if audience is not None:
            await self._changes.insist(audience, lambda state: occurrences.worker_replaced(state, self._node.now_ms()))

    async def transport_changed(
        self, consult: ConsultId, participant: ParticipantId, transport: TransportId, connection: Connection
    ) -> None:
        """A Transport fell silent (7 s), closed (30 s) or is alive again. [ME8]"""
        audience = self._node.audiences.get(consult)
        if audience is None or participant not in audience.state.participants or participant in audience.elsewhere:
            return
        silent = audience.silent_transports.setdefault(participant, set())
        if connection is Connection.CONNECTED:
            silent.discard(transport)
        else:
            silent.add(transport)
        await self._changes.insist(
            audience,
            lambda state: occurrences.path_changed(state, participant, self._node.now_ms(), healthy=not silent),
        )

    async def producers_closed(self, consult: ConsultId, participant: ParticipantId) -> None:
        """A participant's sending Transport died; what it sent is gone. [ME1]"""
        audience = self._node.audiences.get(consult)
        if audience is not None and participant not in audience.elsewhere:
            await self._changes.insist(audience, lambda state: closed_sources(state, participant, self._node.now_ms()))

    async def active_speaker(self, consult: ConsultId, producer: ProducerId | None) -> None:
        """The loudest Producer changed."""
        audience = self._node.audiences.get(consult)
        if audience is not None:
            audience.signal(ActiveSpeaker(producer=producer))

    async def line_news(
        self, consult: ConsultId, participant: ParticipantId, news: ConsumerLayers | LineQuality | TransportGone
    ) -> None:
        """To the one participant it is about; nobody keeps it. [ME13] [ME14]"""
        audience = self._node.audiences.get(consult)
        if audience is not None:
            audience.whisper(participant, news)
