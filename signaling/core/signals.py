"""Pointer, scroll, ink, loudness and line: worth nothing a second later, never stored. [LE4] [SH7]

A signal carries the context version and the page it was made on, so that a
late one is never drawn over another patient (H21). ``key_of`` says which
pending signals a newer one replaces.
"""

from signaling.core.admission import Admission
from signaling.core.messages import (
    AnySignal,
    ConsumerLayers,
    EcgPointed,
    HeartRate,
    Ink,
    Inked,
    LineQuality,
    Point,
    PointEcg,
    Pointed,
    Scroll,
    Scrolled,
    TransportGone,
)


def signal_of(actor: Admission, command: Scroll | Point | PointEcg | Ink) -> AnySignal:
    """What the others get to see; the caller has asked `handle` first."""
    match command:
        case Scroll():
            return Scrolled(
                by=actor.participant, context_version=command.context_version, view=command.view, y=command.y
            )
        case Point():
            return Pointed(
                by=actor.participant,
                context_version=command.context_version,
                view=command.view,
                x=command.x,
                y=command.y,
                visible=command.visible,
            )
        case PointEcg():
            return EcgPointed(by=actor.participant, **command.model_dump(exclude={"type"}))
        case Ink():
            return Inked(by=actor.participant, **command.model_dump(exclude={"type"}))


def key_of(signal: AnySignal) -> str:
    """Of two undelivered signals with the same key only the newer matters."""
    match signal:
        case ConsumerLayers():
            return f"{signal.type}:{signal.consumer}"
        case TransportGone():
            return f"transport_gone:{signal.transport}"
        case LineQuality():
            return f"{signal.type}:{signal.transport}"
        case EcgPointed():
            return f"{signal.type}:{signal.by}"
        case Inked():
            # Each carries its stroke whole: what waits is at most one of each stroke of the page's one author.
            return f"{signal.type}:{signal.stroke}"
        case HeartRate():
            return f"{signal.type}:{signal.stream_id}"
        case _:
            return signal.type
