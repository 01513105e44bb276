"""Signals between processes: a pointer, a scroll, a stroke reaches who is in the consult on another one. [LE4] [SH7]

They go over the bus and nowhere else: not into the store, not into the log. One that is lost is not made up for; the
next movement brings the next. Where one arrives it is asked again whether it is still about what is shown there (H21),
since this process may have been told of another patient first; the lead, the page and the freeze it names are the
page's to compare, as with the signals of this process. How fast they go, and what is dropped, is the bus's business.
"""

from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from signaling.aio.audience import Audience
from signaling.aio.this_node import ThisNode
from signaling.core.ids import ConsultId
from signaling.core.messages import AnySignal, EcgPointed, Inked, Pointed, Scrolled
from signaling.core.signals import key_of

_PASSED: TypeAdapter[Scrolled | Pointed | EcgPointed | Inked] = TypeAdapter(
    Annotated[Scrolled | Pointed | EcgPointed | Inked, Field(discriminator="type")]
)


class Passing:
    """Signals of participants to and from the other processes."""

    def __init__(self, node: ThisNode) -> None:
        self._node = node
        self.malformed = 0
        """From the bus, and no signal that is passed on: another version's, or not from one of us."""
        self.late = 0
        """About what is not shown here, or of somebody who is not in the consult."""
        node.bus.listen_to_signals(self._heard)

    def pass_on(self, audience: Audience, signal: AnySignal) -> None:
        """Tell the other processes, where one of them has anybody of this consult."""
        if self._node.settings.sole_node or audience.state.participants.keys() <= audience.peers.keys():
            return
        self._node.bus.pass_on(audience.state.id, key_of(signal), signal.model_dump_json().encode())

    def _heard(self, consult: ConsultId, body: bytes) -> None:
        audience = self._node.audiences.get(consult)
        if audience is None:
            return
        try:
            signal = _PASSED.validate_json(body)
        except ValidationError:
            self.malformed += 1
            return
        context = audience.state.context
        if context is None or context.version != signal.context_version or signal.by not in audience.state.participants:
            self.late += 1
            return
        audience.signal(signal, skip=audience.peers.get(signal.by))
