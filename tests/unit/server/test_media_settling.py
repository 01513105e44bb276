"""A consult whose worker died is placed again without keeping the server from hearing of the next death."""

import asyncio
from typing import Any, cast

from media.aio.pool import WorkerPool
from media.core.control import MediaError, MediaErrorCode
from server.media_places import Places
from signaling.core.ids import ConsultId

CONSULT = ConsultId("c1")
MOST = 20


class Unaware:
    """A pool that has not heard yet that its worker died."""

    def __init__(self) -> None:
        self.tries = 0

    async def wait_up(self, timeout_s: float, only: int | None) -> None:
        pass

    def choose(self, *, urgent: bool) -> int:
        return 0

    def placed(self, worker: int, consult: ConsultId) -> None:
        pass

    removed = placed

    def client(self, worker: int) -> Any:
        self.tries += 1
        assert self.tries < MOST, "nobody else had a turn"
        raise MediaError(MediaErrorCode.WORKER_GONE, "it died")


async def test_a_death_is_heard_of_while_its_consult_is_placed_again() -> None:
    pool = Unaware()
    places = Places(cast(WorkerPool, pool))
    places._homeless[CONSULT] = 0
    settling = asyncio.create_task(places.settle_again(CONSULT))
    while not pool.tries:
        await asyncio.sleep(0)
    places._homeless.clear()  # its consult was closed meanwhile
    await settling
