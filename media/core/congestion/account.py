"""Calm feedback taken in by somebody else, to be booked later as if it had been heard when it came.

Most feedback says that everything arrived and nothing waited (``quiet``). To know that, a few integers are enough: what
feedback has told of up to now, the delay of the empty line, the record of what was sent. While a line is calm they
are *lent*: they stand in plain memory, where the packet path in C (``media/native/intake.c``) checks a feedback
as `SentPackets.follows` and `Spell.takes` would, moves them on and writes a row. It decides nothing:
whatever is not as calm as that is left to `LineEstimator.hear`, and from then on all is.

`LineEstimator.settle` takes the integers back and books the rows in order, each with its own time, so that nobody
who asks can tell the difference.
"""

from array import array
from collections.abc import Iterator
from typing import Final, NamedTuple

ROWS: Final = 16
"""Kept at the most: what depends on them (the rate that arrives, the round trip) is not older than that."""
DELTA_BYTES: Final = 4096
"""Of all rows together."""
LENT_US: Final = 1_000_000
"""What comes later is the last: then somebody looks whether more arrives than was allotted."""
RIPE_US: Final = 200_000
"""So long before that, two rows before the last, and when half of the deltas are there, whoever takes it in asks for it
to be settled."""
NOT_KNOWN: Final = 1 << 62
_OPEN, _ROOM, _UNTIL, _RIPE, _COUNT, _BYTES, _STANDING = range(7)
_FIRST_ROW: Final = 14


class Standing(NamedTuple):
    """Where a line stands, as far as calm feedback moves it."""

    told_to: int
    """Extended number of the first packet that no feedback has told of."""
    reference: int
    """Last reference time, unwrapped."""
    group_us: int
    """When the group of packets began that is being gathered."""
    queue_us: int
    least_us: int
    """This and the next three are `BaseDelay`."""
    current_us: int
    previous_us: int
    """``NOT_KNOWN`` without."""
    since_us: int


class Row(NamedTuple):
    """One calm feedback."""

    now_us: int
    packets: int
    size_bytes: int
    newest_us: int
    """When its last packet was sent."""
    latest_us: int
    """When that arrived, on the viewer's clock."""
    next_number: int
    """Transport-wide number of what was sent next."""
    start: int
    """Extended number of its first packet."""
    began_us: int
    """When the group began that it goes on with."""
    reference_us: int


class Account:
    """What of one line is lent, and what came back."""

    __slots__ = ("deltas", "fields", "lent")

    def __init__(self) -> None:
        self.fields = array("q", bytes(8 * (_FIRST_ROW + ROWS * len(Row._fields))))
        """``in_account`` of the C function."""
        self.deltas = bytearray(DELTA_BYTES)
        """Of the rows, one behind the other: see `WholeFeedback`."""
        self.lent = False

    def lend(self, standing: Standing, room: int, now_us: int) -> None:
        """From now on calm feedback may be taken in.

        Args:
            room: this much of it.
        """
        fields = self.fields
        fields[_STANDING:_FIRST_ROW] = array("q", standing)
        fields[_ROOM], fields[_UNTIL], fields[_RIPE] = min(room, ROWS), now_us + LENT_US, 0
        fields[_COUNT] = fields[_BYTES] = 0
        fields[_OPEN] = 1
        self.lent = True

    def take_back(self) -> tuple[Standing, int]:
        """Nothing more may be taken in: where the line stands, and how many rows there are."""
        self.fields[_OPEN] = 0
        self.lent = False
        return Standing._make(self.fields[_STANDING:_FIRST_ROW]), self.fields[_COUNT]

    def rows(self, count: int) -> Iterator[tuple[Row, bytes]]:
        """What was taken in, in order, each with its deltas."""
        width, at, deltas_at = len(Row._fields), _FIRST_ROW, 0
        for _ in range(count):
            row = Row._make(self.fields[at : at + width])
            yield row, bytes(self.deltas[deltas_at : deltas_at + row.packets])
            at += width
            deltas_at += row.packets
