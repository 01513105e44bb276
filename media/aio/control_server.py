"""The worker's end of the control connection: requests in, answers and notifications out.

Requests are carried out in order, one at a time, each without awaiting, so a caller that sent two may
rely on their order. The connection is the worker's reason to live: when it ends, ``serve`` returns.

The messages are ``media.core.control``; what they do is ``relay``.
"""

import asyncio
import logging
from typing import Any

from media.aio.relay import Relay
from media.core import control
from media.core.control import JsonObject, MediaError, MediaErrorCode

log = logging.getLogger(__name__)

OUTBOUND_LIMIT_BYTES = 16 << 20
"""What may wait for an application that does not read; beyond it the worker gives up on it."""


class ControlServer:
    """One control connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def notify(self, notification: control.AnyNotification) -> None:
        """Say something unasked."""
        self._send({"note": notification.model_dump()})

    async def serve(self, relay: Relay) -> None:
        """Answer until the other end closes or breaks the framing."""
        frames = control.FrameReader()
        try:
            while data := await self._reader.read(65536):
                for frame in frames.feed(data):
                    self._send(self._answer(relay, frame))
        except (OSError, control.MalformedFrame) as error:
            log.warning("control connection broken", extra={"reason": type(error).__name__})
        finally:
            self._writer.close()

    def _answer(self, relay: Relay, frame: JsonObject) -> JsonObject:
        number = frame.get("id")
        try:
            request = control.parse_request(frame.get("call"))
            return {"id": number, "ok": carry_out(relay, request)}
        except MediaError as error:
            return {"id": number, "error": {"code": error.code.value, "text": error.text}}
        except Exception:  # our bug: the caller gets an answer, the log the trace, other calls go on
            log.exception("call failed")
            return {"id": number, "error": {"code": MediaErrorCode.INTERNAL.value, "text": "internal error"}}

    def _send(self, frame: JsonObject) -> None:
        transport: Any = self._writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > OUTBOUND_LIMIT_BYTES:
            log.error("application does not read; ending")
            transport.abort()
            return
        self._writer.write(control.build_frame(frame))


def carry_out(relay: Relay, request: control.AnyRequest) -> JsonObject:
    """Do what one request asks; its result.

    Raises:
        MediaError: declined, nothing changed.
    """
    match request:
        case control.OpenRouter():
            return {"rtp_capabilities": relay.open_router(request.router)}
        case control.CloseRouter():
            relay.close_router(request.router)
        case control.CreateTransport():
            return relay.create_transport(request.router, request.transport, request.owner, request.direction)
        case control.ConnectTransport():
            relay.connect_transport(request.transport, request.dtls_parameters)
        case control.RestartIce():
            return {"ice_parameters": relay.restart_ice(request.transport)}
        case control.CloseTransport():
            relay.close_transport(request.transport)
        case control.AcceptPipe():
            relay.accept_pipe(request.router, request.transport, request.owner, request.key)
        case control.OpenPipe():
            relay.open_pipe(request.transport, request.path, request.key)
        case control.Stats():
            return {"counters": relay.stats()}
        case _:
            return _carry_out_media(relay, request)
    return {}


def _carry_out_media(relay: Relay, request: control.AnyRequest) -> JsonObject:
    match request:
        case control.Produce():
            relay.produce(
                request.transport,
                request.producer,
                request.kind,
                request.rtp_parameters,
                request.paused,
                request.content,
            )
        case control.PauseProducer():
            relay.pause_producer(request.producer)
        case control.ResumeProducer():
            relay.resume_producer(request.producer)
        case control.CloseProducer():
            relay.close_producer(request.producer)
        case control.Consume():
            return relay.consume(request.transport, request.consumer, request.producer, request.rtp_capabilities)
        case control.PauseConsumer():
            relay.pause_consumer(request.consumer)
        case control.ResumeConsumer():
            relay.resume_consumer(request.consumer)
        case control.ViewConsumer():
            relay.view_consumer(request.consumer, request.width, request.height, request.rank)
        case control.CloseConsumer():
            relay.close_consumer(request.consumer)
        case _:
            return _carry_out_data(relay, request)
    return {}


def _carry_out_data(relay: Relay, request: control.AnyRequest) -> JsonObject:
    match request:
        case control.ProduceData():
            relay.produce_data(
                request.transport,
                request.data_producer,
                request.label,
                request.protocol,
                request.sctp_stream_parameters,
                request.waveform,
                request.vitals,
            )
        case control.CloseDataProducer():
            relay.close_data_producer(request.data_producer)
        case control.ConsumeData():
            return relay.consume_data(request.transport, request.data_consumer, request.data_producer)
        case control.ResumeDataConsumer():
            relay.resume_data_consumer(request.data_consumer)
        case control.CloseDataConsumer():
            relay.close_data_consumer(request.data_consumer)
        case control.TapData():
            relay.tap_data(request.router, request.path, request.key)
        case _:
            raise MediaError(MediaErrorCode.BAD_PARAMETERS, "unknown method")
    return {}
