"""The application's hand on one media worker: a coroutine per control method.

Calls may overlap; answers find their caller by request id. Each call has a time limit, and
when the connection goes every waiting call fails with ``worker_gone``. Notifications go to one
synchronous callback in the order the worker sent them; it must not block.

Spawning and restarting the process is ``media.aio.supervisor``; the messages are
``media.core.control``.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Literal

from media.core import control
from media.core.control import AnyNotification, JsonObject, MediaError, MediaErrorCode

log = logging.getLogger(__name__)

NotificationCallback = Callable[[AnyNotification], None]
CALL_TIMEOUT_S = 5.0
"""A healthy worker answers in a millisecond; 5 s means it hangs, which is the supervisor's business."""


class WorkerClient:
    """One open control connection. Every method raises ``MediaError`` when refused."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_notification: NotificationCallback,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_notification = on_notification
        self._timeout_s = timeout_s
        self._waiting: dict[int, asyncio.Future[JsonObject]] = {}
        self._next_id = 0
        self._gone = False
        self.closed = asyncio.Event()
        """Set once the connection is over, whoever ended it."""
        self._receiver = asyncio.create_task(self._receive(), name="media-control-receive")

    async def open_router(self, router: str) -> JsonObject:
        """Make a Router; its RTP capabilities (``RtpCapabilities``, camelCase)."""
        result = await self.call(control.OpenRouter(router=router))
        capabilities: JsonObject = result["rtp_capabilities"]
        return capabilities

    async def close_router(self, router: str) -> None:
        """Close a Router and all in it; idempotent."""
        await self.call(control.CloseRouter(router=router))

    async def create_transport(
        self, router: str, transport: str, owner: str, direction: Literal["send", "recv"]
    ) -> JsonObject:
        """Make a Transport: id, ice_parameters, ice_candidates, dtls_parameters, sctp_parameters."""
        return await self.call(
            control.CreateTransport(router=router, transport=transport, owner=owner, direction=direction)
        )

    async def connect_transport(self, transport: str, dtls_parameters: JsonObject) -> None:
        """Give the client's ``DtlsParameters``; once per Transport, else ``bad_state``."""
        await self.call(control.ConnectTransport(transport=transport, dtls_parameters=dtls_parameters))

    async def restart_ice(self, transport: str) -> JsonObject:
        """New ``IceParameters``; media goes on over the old path until the client nominates."""
        result = await self.call(control.RestartIce(transport=transport))
        parameters: JsonObject = result["ice_parameters"]
        return parameters

    async def close_transport(self, transport: str) -> None:
        """Close a Transport with its Producers and Consumers; idempotent."""
        await self.call(control.CloseTransport(transport=transport))

    async def produce(
        self,
        transport: str,
        producer: str,
        kind: Literal["audio", "video"],
        rtp_parameters: JsonObject,
        paused: bool = False,
        content: Literal["camera", "screen"] = "camera",
    ) -> None:
        """Register what a client sends."""
        await self.call(
            control.Produce(
                transport=transport,
                producer=producer,
                kind=kind,
                rtp_parameters=rtp_parameters,
                paused=paused,
                content=content,
            )
        )

    async def pause_producer(self, producer: str) -> None:
        """Drop what it sends until resumed."""
        await self.call(control.PauseProducer(producer=producer))

    async def resume_producer(self, producer: str) -> None:
        """Forward it again."""
        await self.call(control.ResumeProducer(producer=producer))

    async def close_producer(self, producer: str) -> None:
        """Remove it and its Consumers; idempotent."""
        await self.call(control.CloseProducer(producer=producer))

    async def consume(self, transport: str, consumer: str, producer: str, rtp_capabilities: JsonObject) -> JsonObject:
        """Make a paused Consumer: rtp_parameters, producer_paused, kind."""
        return await self.call(
            control.Consume(
                transport=transport, consumer=consumer, producer=producer, rtp_capabilities=rtp_capabilities
            )
        )

    async def pause_consumer(self, consumer: str) -> None:
        """Stop forwarding to this viewer."""
        await self.call(control.PauseConsumer(consumer=consumer))

    async def resume_consumer(self, consumer: str) -> None:
        """Forward to this viewer from the next key frame, which is asked for."""
        await self.call(control.ResumeConsumer(consumer=consumer))

    async def view_consumer(self, consumer: str, width: int, height: int, rank: Literal["main", "tile"]) -> None:
        """Say how large a viewer shows it, in device pixels; 0 by 0 is out of sight."""
        await self.call(control.ViewConsumer(consumer=consumer, width=width, height=height, rank=rank))

    async def close_consumer(self, consumer: str) -> None:
        """Remove it; idempotent."""
        await self.call(control.CloseConsumer(consumer=consumer))

    async def produce_data(
        self,
        transport: str,
        data_producer: str,
        label: str,
        protocol: str,
        sctp_stream_parameters: JsonObject,
        waveform: JsonObject | None = None,
        vitals: JsonObject | None = None,
    ) -> None:
        """Register an SCTP stream.

        Args:
            waveform: ``{"stream_id": int, "simulated": bool}`` for label ``ecg``.
            vitals: ``{"simulated": bool}`` for label ``vitals``.
        """
        await self.call(
            control.ProduceData(
                transport=transport,
                data_producer=data_producer,
                label=label,
                protocol=protocol,
                sctp_stream_parameters=sctp_stream_parameters,
                waveform=None if waveform is None else control.WaveformSource(**waveform),
                vitals=None if vitals is None else control.VitalsSource(**vitals),
            )
        )

    async def close_data_producer(self, data_producer: str) -> None:
        """Remove it and its DataConsumers; idempotent."""
        await self.call(control.CloseDataProducer(data_producer=data_producer))

    async def consume_data(self, transport: str, data_consumer: str, data_producer: str) -> JsonObject:
        """Make a paused DataConsumer: sctp_stream_parameters, label, protocol. ``ctl`` names the relay itself."""
        return await self.call(
            control.ConsumeData(transport=transport, data_consumer=data_consumer, data_producer=data_producer)
        )

    async def resume_data_consumer(self, data_consumer: str) -> None:
        """Start to send."""
        await self.call(control.ResumeDataConsumer(data_consumer=data_consumer))

    async def close_data_consumer(self, data_consumer: str) -> None:
        """Remove it; idempotent."""
        await self.call(control.CloseDataConsumer(data_consumer=data_consumer))

    async def stats(self) -> dict[str, int]:
        """Counters of the worker by name; they only grow, except the ones that end in ``_now``."""
        result = await self.call(control.Stats())
        counters: dict[str, int] = result["counters"]
        return counters

    async def call(self, request: control.Request) -> JsonObject:
        """Send one request and wait for its result.

        Raises:
            MediaError: what the worker answered, or ``worker_gone``, or ``timeout``.
        """
        if self._gone:
            raise MediaError(MediaErrorCode.WORKER_GONE, "no connection to the media worker")
        self._next_id += 1
        number = self._next_id
        answer: asyncio.Future[JsonObject] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with asyncio.timeout(self._timeout_s):
                self._writer.write(control.build_frame({"id": number, "call": request.model_dump(exclude_none=True)}))
                await self._writer.drain()
                return await answer
        except TimeoutError as error:
            raise MediaError(MediaErrorCode.TIMEOUT, "the media worker did not answer in time") from error
        except OSError as error:
            raise MediaError(MediaErrorCode.WORKER_GONE, "the media worker went away") from error
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """End the connection, which also ends the worker; idempotent."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        self._receiver.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._receiver
        self._finish()

    async def _receive(self) -> None:
        frames = control.FrameReader()
        try:
            while data := await self._reader.read(65536):
                for frame in frames.feed(data):
                    self._accept(frame)
        except (OSError, control.MalformedFrame) as error:
            log.warning("control connection broken", extra={"reason": type(error).__name__})
        finally:
            self._finish()

    def _accept(self, frame: JsonObject) -> None:
        if "note" in frame:
            notification = control.parse_notification(frame["note"])
            try:
                self._on_notification(notification)
            except Exception:  # a bug in the listener must not cut the line to a worker with live consults
                log.exception("notification listener failed")
            return
        answer = self._waiting.get(frame.get("id", 0))
        if answer is None or answer.done():
            return  # its caller gave up waiting
        if "ok" in frame:
            answer.set_result(frame["ok"])
        else:
            error = frame.get("error", {})
            answer.set_exception(MediaError(MediaErrorCode(error["code"]), error["text"]))

    def _finish(self) -> None:
        self._gone = True
        self.closed.set()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(MediaError(MediaErrorCode.WORKER_GONE, "the media worker went away"))
