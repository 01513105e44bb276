"""The door before all that lets somebody into a consult: who cannot be served now is turned away for next to nothing.

Asked before the body is read and before the database is: `signaling.core.arrivals` says why and how. [SE16]
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from server.api.errors import ApiCode, ApiError
from server.api.request import secret_of, services
from server.identity.aio.tokens import IssuedToken
from server.metrics import ARRIVALS_TURNED_AWAY
from signaling.core.arrivals import Arrival, TurnedAway
from signaling.core.ids import ConsultId, ParticipantId

_SENTENCES = (
    "Very many people are connecting at this moment. You will be let in as soon as it is your turn.",
    "当前接入人数很多，轮到您时将自动接入。",
)


@contextmanager
def arriving(request: web.Request) -> Iterator[Arrival]:
    """Somebody is on the way into the consult of the path; what fails inside frees the place.

    Raises:
        ApiError: ``too_busy``, with the time at which to ask again.
    """
    arrivals = services(request).arrivals
    # The secret is not kept, and whose it is not known yet: it only has to be the same next time.
    who = (hash(secret_of(request)), request.match_info["consult"])
    answer = arrivals.knock(who, _now_s())
    if isinstance(answer, TurnedAway):
        ARRIVALS_TURNED_AWAY.inc()
        raise ApiError(ApiCode.TOO_BUSY, "arrivals", retry_after_s=answer.retry_after_s, sentences=_SENTENCES)
    try:
        yield answer
    finally:
        if answer.participant is None:
            arrivals.give_up(answer)


def expected(request: web.Request, arrival: Arrival, issued: IssuedToken) -> None:
    """A token was made for it: it is to come with that."""
    participant = (ConsultId(request.match_info["consult"]), issued.participant)
    services(request).arrivals.expect(arrival, participant, _now_s())


def arrived(request: web.Request, consult: ConsultId, participant: ParticipantId) -> None:
    """Its token was taken where nothing more is needed."""
    services(request).arrivals.taken((consult, participant), _now_s())


def _now_s() -> float:
    return asyncio.get_running_loop().time()
