"""Closing what is closed already is no error; anything else that is not there is."""

from typing import Any

import pytest

from signaling.aio.media_calls import MediaCalls
from signaling.core import messages as m
from signaling.core.errors import ErrorCode, Refusal
from signaling.core.ids import ConsumerId, DataConsumerId, DataProducerId, ProducerId


class Gone:
    """A media plane that has none of it any more."""

    async def call(self, *_: Any) -> Any:
        raise Refusal(ErrorCode.NOT_FOUND)


class Somebody:
    consult = participant = "x"


@pytest.mark.parametrize(
    "command",
    [
        m.CloseProducer(producer=ProducerId("p")),
        m.CloseConsumer(consumer=ConsumerId("c")),
        m.CloseDataProducer(data_producer=DataProducerId("d")),
        m.CloseDataConsumer(data_consumer=DataConsumerId("e")),
    ],
    ids=lambda command: command.type,
)
async def test_closing_what_went_with_its_source_is_done(command: Any) -> None:
    media: Any = Gone()
    actor: Any = Somebody()
    assert await MediaCalls(media, 1.0).ask(actor, command) == m.Done()


async def test_pausing_what_is_gone_is_refused() -> None:
    media: Any = Gone()
    actor: Any = Somebody()
    with pytest.raises(Refusal) as refused:
        await MediaCalls(media, 1.0).ask(actor, m.PauseConsumer(consumer=ConsumerId("c")))
    assert refused.value.code is ErrorCode.NOT_FOUND
