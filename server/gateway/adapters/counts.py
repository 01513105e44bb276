"""What the adapters count; labels never hold an id of a person or a message."""

from collections import Counter as Words

from prometheus_client import Counter, Gauge

TAKEN = Counter(
    "consilium_gateway_taken_total", "Messages and files the adapters put into the journal.", ["adapter", "kind"]
)
REPEATED = Counter("consilium_gateway_repeated_total", "Messages that came again and were answered again.", ["adapter"])
REFUSED = Counter("consilium_gateway_refused_total", "Messages and files not taken, by code.", ["adapter", "code"])
TOLERATED = Counter(
    "consilium_gateway_tolerated_total",
    "Deviations that were read over, and parts that no mapping takes, by word.",
    ["adapter", "word"],
)
SENT = Counter("consilium_gateway_sent_total", "Messages to the hospital by its answer.", ["adapter", "result"])
HELD_UP = Gauge(
    "consilium_gateway_held_up_deliveries",
    "Deliveries of the message that an interface to the hospital cannot get rid of; 0 when it flows.",
    ["adapter"],
)
CONNECTIONS = Counter(
    "consilium_gateway_connections_total",
    "Connections of the hospital's systems by what became of them.",
    ["adapter", "result"],
)


def tolerated(adapter: str, words: Words[str]) -> None:
    """Add what a message had to be forgiven."""
    for word, times in words.items():
        TOLERATED.labels(adapter, word).inc(times)
