"""Counters and gauges of this process; names and labels never hold an id of a person or consult."""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from media.core.control import Load
from media.core.lag import BOUNDS_S, LagHistogram

HTTP_REFUSALS = Counter("consilium_http_refusals_total", "Refused HTTP requests by code.", ["code"])
LOGINS = Counter("consilium_logins_total", "Sign-in attempts by result.", ["result"])
TOKENS = Counter("consilium_consult_tokens_total", "Consult tokens by what became of them.", ["result"])
ARRIVALS_TURNED_AWAY = Counter(
    "consilium_arrivals_turned_away_total", "Requests to enter a consult that were told to come again later."
)
ARRIVALS = Gauge("consilium_arrivals_under_way", "Who is on the way into a consult now.")
ARRIVALS_BOUND = Gauge("consilium_arrivals_bound", "How many may be; follows how late the event loop is.")
ARRIVALS_WAITING = Gauge("consilium_arrivals_waiting", "Who were told to come again and have not come yet.")
ARRIVALS_RATE = Gauge("consilium_arrivals_per_second", "How many could be let in when too many came, as learnt.")
RECORD_READS = Counter("consilium_record_reads_total", "Reads of the record by FHIR type.", ["type"])
AUDIT_ROWS = Gauge("consilium_audit_rows", "Rows in the audit chain.")
ASYNCIO_TASKS = Gauge("consilium_asyncio_tasks", "Tasks of this process's event loop, counted every ten seconds.")
SOCKETS = Gauge("consilium_sockets", "Sockets that have shown a token.")
OUTBOX_FULLEST = Gauge("consilium_outbox_fullest", "Frames that wait for the socket that has most of them waiting.")
WRITES_WAITING = Gauge("consilium_database_writes_waiting", "Writes that wait for their turn at the database.")
GC_PAUSES = Histogram(
    "consilium_gc_pause_seconds",
    "Times that Python's collector held this process up, by what was looked at.",
    ["of"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0),
)
CERT_EXPIRY = Gauge("consilium_cert_expiry_seconds", "Seconds until the server's certificate expires.")

WAVEFORM_ARCHIVE = Counter(
    "consilium_waveform_archive_frames_total",
    "Archived waveform frames by what became of them; cut and failed count streams and writes.",
    ["result"],
)
WAVEFORM_TAP = Counter("consilium_waveform_tap_total", "What came from the media workers' taps.", ["kind"])
WAVEFORM_FEED = Counter("consilium_waveform_feed_total", "Messages of the WebSocket fallback.", ["kind"])
WAVEFORM_STREAMS = Gauge("consilium_waveform_streams", "Live waveform streams.")
HEART_SECONDS = Counter("consilium_heart_rate_seconds_total", "CPU seconds that computed heart rates took.")

LOCK_CROSSINGS = Counter("consilium_lock_crossings_total", "Crossings of the lock.", ["direction", "result"])
LOCK_QUESTIONS = Counter("consilium_lock_questions_total", "Questions through the lock by result.", ["result"])
LOCK_GATEWAYS = Gauge("consilium_lock_gateways", "Gateways that are connected to this process.")
LOCK_REFUSED = Counter("consilium_lock_connections_refused_total", "Connections not let in, by reason.", ["code"])

FHIRCAST = Counter("consilium_fhircast_total", "What went wrong with outside programs, by kind.", ["kind"])

_WORKER = ["worker"]
WORKER_UP = Gauge("consilium_media_worker_up", "1 while the media worker runs.", _WORKER)
WORKER_DEATHS = Counter("consilium_media_worker_deaths_total", "Media workers that ended and were replaced.", _WORKER)
WORKER_BUSY = Gauge(
    "consilium_media_worker_busy", "Share of a core in use or promised: what placement decides by.", _WORKER
)
WORKER_CPU = Gauge("consilium_media_worker_cpu_share", "CPU time of the last second, 1 is one core.", _WORKER)
WORKER_PACKETS = Gauge(
    "consilium_media_worker_packets_per_second", "RTP packets in the last second.", ["worker", "direction"]
)
WORKER_TRANSPORTS = Gauge("consilium_media_worker_transports", "Transports that are open.", _WORKER)
WORKER_CONSUMERS = Gauge("consilium_media_worker_consumers", "Consumers that are open.", _WORKER)
WORKER_CONSULTS = Gauge("consilium_media_worker_consults", "Consults placed there.", _WORKER)
WORKER_TURN = Gauge(
    "consilium_media_worker_turn_seconds", "Turn that the kernel grants the worker; 0: it has one for all.", _WORKER
)
MEDIA_FIRST = Gauge("consilium_media_first", "1 while media workers go before this process on a core that both want.")


LAG_STEP_S: Final = 0.02
"""How often this process looks how late its event loop is."""


class LoopLags(Collector):
    """How late event loops were: this process's and its media workers', buckets in the sense of ``media.core.lag``.

    Not the client library's histogram, which counts one observation at a time: a worker tells a second's at once.
    """

    def __init__(self) -> None:
        self.server = LagHistogram(LAG_STEP_S)
        self.workers: dict[str, LagHistogram] = {}

    def worker(self, name: str, counts: Sequence[int], total_s: float) -> None:
        """What a worker saw in a second; one that said nothing of it is left out."""
        if counts:
            self.workers.setdefault(name, LagHistogram(LAG_STEP_S)).absorb(counts, total_s)

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """Names, without values."""
        yield HistogramMetricFamily(
            "consilium_event_loop_lag_seconds", "Moments by how late the server's event loop was in them."
        )
        yield HistogramMetricFamily(
            "consilium_media_worker_loop_lag_seconds",
            "Moments by how late a media worker's event loop was in them.",
            labels=_WORKER,
        )

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Both, as they stand."""
        server, workers = self.describe()
        server.add_metric([], _buckets(self.server), self.server.total_s)
        for name, seen in self.workers.items():
            workers.add_metric([name], _buckets(seen), seen.total_s)
        yield from (server, workers)


def _buckets(seen: LagHistogram) -> list[tuple[str, float]]:
    edges = [*(f"{edge_s:g}" for edge_s in BOUNDS_S), "+Inf"]
    return list(zip(edges, accumulate(seen.counts), strict=True))


LOOP_LAGS: Final = LoopLags()
REGISTRY.register(LOOP_LAGS)


class WorkerGauges:
    """The gauges of this machine's media workers, by the worker's number."""

    def show(self, worker: int, load: Load, busy: float, consults: int, turn_us: int) -> None:
        """What a worker has just reported."""
        name = str(worker)
        WORKER_UP.labels(name).set(1)
        WORKER_BUSY.labels(name).set(round(busy, 4))
        WORKER_CPU.labels(name).set(load.cpu_share)
        LOOP_LAGS.worker(name, load.loop_lags, load.loop_lags_s)
        WORKER_PACKETS.labels(name, "in").set(load.packets_in_per_s)
        WORKER_PACKETS.labels(name, "out").set(load.packets_out_per_s)
        WORKER_TRANSPORTS.labels(name).set(load.transports)
        WORKER_CONSUMERS.labels(name).set(load.consumers)
        WORKER_CONSULTS.labels(name).set(consults)
        WORKER_TURN.labels(name).set(turn_us / 1_000_000)

    def died(self, worker: int) -> None:
        """It is gone; its last load says nothing of the next one."""
        WORKER_UP.labels(str(worker)).set(0)
        WORKER_DEATHS.labels(str(worker)).inc()

    def clear(self) -> None:
        """The server stops: no old figures."""
        for gauge in (WORKER_UP, WORKER_BUSY, WORKER_CPU, WORKER_PACKETS):
            gauge.clear()
        for gauge in (WORKER_TRANSPORTS, WORKER_CONSUMERS, WORKER_CONSULTS, WORKER_TURN):
            gauge.clear()
