"""C-STORE SCP: ECG carts and imaging devices of the hospital send their objects to the gateway.

pynetdicom serves each association in a thread of its own; its handler hands the object to the event loop and answers
0x0000 only after the journal has it. A sender that got anything else keeps the object and sends it again: the SOP
Instance UID is the key.

| status | means |
| --- | --- |
| 0000 | durable |
| A700 | the journal is full or the disk takes nothing: send again later |
| A900 | not what the request announced, or a class that is not taken |
| C000 | cannot be read: no patient id, unknown issuer, no rhythm, no PDF, damaged; or its UID was used before |
| 0124 | the policy does not let it cross |

Objects are held in memory, not in temporary files, which would lie on the disk unencrypted; hence the bounds per object
and over all associations. Who sends more is hung up on, since DICOM has no way to refuse an object before its end.
"""

import asyncio
import contextlib
import ipaddress
import logging
import threading
from collections import OrderedDict
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog
from pydicom import uid
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined] # made when it is asked for

from server.gateway.adapters import counts
from server.gateway.adapters.bugs import where
from server.gateway.adapters.dicom_object import (
    CANNOT_UNDERSTAND,
    IMAGE,
    KINDS,
    MAX_INSTANCES,
    NOT_AUTHORIZED,
    OUT_OF_RESOURCES,
    SUCCESS,
    Received,
    Unusable,
    describe,
    describe_series,
    receive,
)
from server.gateway.core.crossing import MAX_BODY_BYTES, Crossing, LockRefused, Outlet, RefusalCode
from server.gateway.hl7v2.profile import Profile

log = structlog.get_logger(__name__)

MAX_PDU_BYTES: Final = 1 << 20
MAX_SERIES: Final = 256
"""Whose images are remembered, to say of a series how many there are."""
_UNCOMPRESSED: Final = [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian]
_PICTURES: Final = [*_UNCOMPRESSED, uid.JPEGBaseline8Bit, uid.JPEGLosslessSV1, uid.JPEG2000Lossless, uid.RLELossless]
_STATUS: Final = {
    RefusalCode.NOT_ALLOWED: NOT_AUTHORIZED,
    RefusalCode.FULL: OUT_OF_RESOURCES,
    RefusalCode.UNAVAILABLE: OUT_OF_RESOURCES,
    RefusalCode.TOO_LARGE: OUT_OF_RESOURCES,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomListen:
    """Where, for whom, and how much."""

    name: str
    host: str
    port: int
    ae_title: str = "CONSILIUM"
    callers: tuple[str, ...]
    """AE titles that may send."""
    peers: tuple[str, ...] = ()
    """Addresses or networks that may connect; empty: all that reach the port."""
    issuers: dict[str, str] = field(default_factory=dict)
    """IssuerOfPatientID (or its universal entity id) -> identifier system; ``""`` for objects that name none."""
    max_object_bytes: int = MAX_BODY_BYTES
    max_buffered_bytes: int = 256 * 1024 * 1024
    max_associations: int = 10
    network_s: float = 60
    put_s: float = 60


_Series = tuple[str, str, str, str]


class _Room:
    """Bytes that all associations hold together."""

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        with self._lock:
            if self._used + size > self._limit:
                return False
            self._used += size
            return True

    def give(self, size: int) -> None:
        with self._lock:
            self._used -= size


class _Intake:
    """What one association has sent since its last object; reads of its socket go through here."""

    def __init__(self, socket: Any, room: _Room, limit: int) -> None:
        self._read, self._room, self._limit = socket.recv, room, limit
        self._held = 0

    def recv(self, size: int) -> bytearray:
        """In place of the socket's.

        Raises:
            ConnectionAbortedError: more than may be held; the association ends.
        """
        if size > MAX_PDU_BYTES or self._held + size > self._limit + MAX_PDU_BYTES or not self._room.take(size):
            raise ConnectionAbortedError("more than is taken")
        self._held += size
        data: bytearray = self._read(size)
        return data

    def done(self) -> None:
        """The object is handled: nothing of it is held any more."""
        self._room.give(self._held)
        self._held = 0


class DicomStore:
    """See the module; an `Adapter`."""

    def __init__(self, listen: DicomListen, profile: Profile) -> None:
        self.name = listen.name
        self.port = listen.port
        """Where it listens; known once `listening` is set, if 0 was asked for."""
        self.listening = asyncio.Event()
        self._listen, self._profile = listen, profile
        self._networks = tuple(ipaddress.ip_network(peer, strict=False) for peer in listen.peers)
        self._room = _Room(listen.max_buffered_bytes)
        self._intakes: dict[int, _Intake] = {}
        self._series: OrderedDict[_Series, OrderedDict[str, Received]] = OrderedDict()
        self._untold: dict[int, set[_Series]] = {}
        self._lock = threading.Lock()

    async def run(self, outlet: Outlet) -> None:
        """See `Adapter`."""
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # a line for every stranger's connection
        loop = asyncio.get_running_loop()

        def put(crossing: Crossing) -> None:
            future = asyncio.run_coroutine_threadsafe(outlet.put(crossing), loop)
            try:
                receipt = future.result(self._listen.put_s)
            except (FutureTimeout, FutureCancelled):
                future.cancel()
                raise Unusable(OUT_OF_RESOURCES, "journal_slow") from None
            if receipt.repeated:
                counts.REPEATED.labels(self.name).inc()

        entity = self._entity()
        handlers = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_CONN_CLOSE, self._closed, [put]),
            (evt.EVT_C_STORE, self._stored, [put]),
            (evt.EVT_C_ECHO, lambda _event: SUCCESS),
        ]
        address = (self._listen.host, self._listen.port)
        server: Any = await asyncio.to_thread(entity.start_server, address, block=False, evt_handlers=handlers)
        self.port = server.socket.getsockname()[1]
        self.listening.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.listening.clear()
            await asyncio.shield(asyncio.to_thread(entity.shutdown))

    def _entity(self) -> Any:
        entity = AE(self._listen.ae_title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(self._listen.callers)
        entity.maximum_associations = self._listen.max_associations
        entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = self._listen.network_s
        entity.add_supported_context(Verification)
        for sop_class, kind in KINDS.items():
            entity.add_supported_context(sop_class, _PICTURES if kind == IMAGE else _UNCOMPRESSED)
        return entity

    # Everything below runs in threads of pynetdicom.

    def _opened(self, event: Any) -> None:
        association = event.assoc
        peer = ipaddress.ip_address(str(event.address[0]).partition("%")[0])
        intake = _Intake(association.dul.socket, self._room, self._listen.max_object_bytes)
        if not self._networks or any(peer in network for network in self._networks):
            association.dul.socket.recv = intake.recv
        else:
            association.dul.socket.recv = _refuse  # nothing of it is read
            counts.CONNECTIONS.labels(self.name, "refused").inc()
        with self._lock:
            self._intakes[id(association)] = intake

    def _closed(self, event: Any, put: Any) -> None:
        key = id(event.assoc)
        with self._lock:
            intake = self._intakes.pop(key, None)
            series = self._untold.pop(key, set())
            told = [list(self._series[one].values()) for one in series if one in self._series]
        if intake is not None:
            intake.done()
            counts.CONNECTIONS.labels(self.name, "closed").inc()
        for instances in told:
            with contextlib.suppress(Unusable):  # counted; the images are durable and nobody listens any more
                self._describe(lambda instances=instances: describe_series(instances, self._profile), put)

    def _stored(self, event: Any, put: Any) -> Dataset:
        key = id(event.assoc)
        try:
            one = receive(
                event.encoded_dataset(),
                instance=str(event.request.AffectedSOPInstanceUID),
                sop_class=str(event.request.AffectedSOPClassUID),
                issuers=self._listen.issuers,
                profile=self._profile,
            )
            self._keep(one, put)
            if one.kind != IMAGE:
                self._describe(lambda: describe(one, self._profile), put)
            elif self._is_new_series(one, key):
                self._describe(lambda: describe_series([one], self._profile), put)
            counts.TAKEN.labels(self.name, one.kind).inc()
            return _status(SUCCESS, "")
        except Unusable as problem:
            return self._refused(problem)
        except Exception as bug:
            log.error("object could not be handled", adapter=self.name, error=type(bug).__name__, where=where(bug))
            return self._refused(Unusable(OUT_OF_RESOURCES, "internal"))
        finally:
            with self._lock:
                intake = self._intakes.get(key)
            if intake is not None:
                intake.done()

    def _keep(self, one: Received, put: Any) -> None:
        try:
            put(one.crossing())
        except LockRefused as refused:
            raise Unusable(_STATUS.get(refused.code, CANNOT_UNDERSTAND), refused.code.value) from None

    def _describe(self, make: Any, put: Any) -> None:
        """The description beside it. The object itself is durable: what its description meets is counted only, except
        that a full journal is told, so that both come again."""
        try:
            put(make())
        except LockRefused as refused:
            counts.REFUSED.labels(self.name, f"about_{refused.code.value}").inc()
            if not refused.is_final:
                raise Unusable(OUT_OF_RESOURCES, refused.code.value) from None

    def _is_new_series(self, one: Received, association: int) -> bool:
        with self._lock:
            series = _series_of(one)
            known = self._series.pop(series, None)
            is_new = known is None
            known = OrderedDict() if known is None else known
            if len(known) < MAX_INSTANCES:
                known[one.instance] = _without_pixels(one)
            self._series[series] = known
            if len(self._series) > MAX_SERIES:
                self._series.popitem(last=False)
            if not is_new:
                self._untold.setdefault(association, set()).add(series)
            return is_new

    def _refused(self, problem: Unusable) -> Dataset:
        counts.REFUSED.labels(self.name, problem.reason).inc()
        log.warning("object refused", adapter=self.name, status=f"{problem.status:04X}", reason=problem.reason)
        return _status(problem.status, problem.reason)


def _series_of(one: Received) -> "_Series":
    """A series belongs to one patient; a UID that a device gave to two is two series here."""
    return (*one.patient, one.study, one.series)


def _without_pixels(one: Received) -> Received:
    return replace(one, data=b"")


def _refuse(_size: int) -> bytearray:
    raise ConnectionAbortedError("not a peer")


def _status(status: int, comment: str) -> Dataset:
    answer = Dataset()
    answer.Status = status
    if comment:
        answer.ErrorComment = comment[:64]
    return answer
