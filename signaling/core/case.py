"""One command on its way through its rule: what every rule of ``consult.py`` and its neighbours is given."""

from dataclasses import dataclass

from signaling.core.admission import Admission
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import ParticipantId
from signaling.core.messages import MediaResult
from signaling.core.model import (
    AnchorType,
    Consult,
    Context,
    FhirId,
    JsonObject,
    PatientBanner,
    Request,
    ShortText,
    Value,
)


class AnchorFacts(Value):
    """A resource that may be opened beside its patient."""

    resource_type: AnchorType
    id: FhirId
    label: ShortText = ""
    resource: JsonObject | None = None
    """What an outside program says of it; None: it is in the record."""


class NoteFacts(Value):
    """A note that is in the record. [SH6]"""

    id: FhirId
    by: str
    """Its author, as a participant of the consult it was made in."""
    in_error: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the outside says about one command."""

    patient: PatientBanner | None = None
    """Banner of the patient whom the command names, if that patient belongs to the consult."""
    anchor: AnchorFacts | None = None
    """The resource that the command names, if it belongs to the open patient."""
    note: NoteFacts | None = None
    """The note that the command names, if it is one of the open patient's."""
    request: Request | None = None
    """Of the outside program that asks in the actor's name; None: the actor asks."""
    media: MediaResult | None = None
    """The media plane's answer; None before it was asked."""
    media_epoch: int | None = None
    """``media_epoch`` at which the media plane was asked."""


@dataclass(frozen=True, slots=True)
class Case:
    """A command's asker, and all that its rule may look at."""

    state: Consult
    actor: Admission
    known: Known
    now_ms: int

    @property
    def me(self) -> ParticipantId:
        """Who asks."""
        return self.actor.participant

    def next(self) -> dict[str, int]:
        """``revision`` and ``at_ms`` of the first event."""
        return {"revision": self.state.revision + 1, "at_ms": self.now_ms}


def require_context(state: Consult, context_version: int) -> Context:
    """The open context, if it is the one that was named. [CX4]

    Raises:
        Refusal: ``context_changed`` for another context (H21).
    """
    if state.context is None or state.context.version != context_version:
        raise Refusal(ErrorCode.CONTEXT_CHANGED)
    return state.context
