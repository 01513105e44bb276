"""One consult while it runs: packets and bits by who publishes and who looks, pages and turns."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from load_tests.modelling.given import SITES, Kind, Site
from load_tests.plan.behaviour import BEHAVIOURS, CAMERAS, Behaviour, Layer

PAYLOAD_BYTES: Final = 1_100
"""Of a full video packet, as the generators and browsers cut them."""
HEADER_BYTES: Final = 12 + 16 + 16 + 8 + 20
"""RTP, its extensions, SRTP's tag, UDP, IPv4."""
SOUND_PPS, SOUND_BYTES = 50, 80
SOUND_BPS: Final = SOUND_PPS * 8 * (SOUND_BYTES + HEADER_BYTES)
LOUDEST: Final = 6
"""Sounds that are forwarded at a time (`media.core.loudest`)."""
TOLERATED_SHORTAGE: Final = 0.8
"""Of a picture's area, as the relay chooses layers (`media.core.layers`)."""
ECG_COPIES: Final = 2
"""Each message brings the frame before again."""
ECG_MESSAGES_PER_S: Final = 10
ECG_OVERHEAD_BYTES: Final = 12 + 16 + 37 + 8 + 20
"""SCTP, its chunk, DTLS, UDP, IPv4, for each message."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What crosses the line of one participant, RTP and waveforms with all headers."""

    up_bps: float = 0.0
    down_bps: float = 0.0
    up_pps: float = 0.0
    down_pps: float = 0.0

    def __add__(self, other: Flow) -> Flow:
        return Flow(
            self.up_bps + other.up_bps, self.down_bps + other.down_bps, self.up_pps + other.up_pps,
            self.down_pps + other.down_pps,
        )  # fmt: skip

    def times(self, factor: float) -> Flow:
        """So many of them."""
        return Flow(*(factor * one for one in (self.up_bps, self.down_bps, self.up_pps, self.down_pps)))


@functools.cache
def stream(layer: Layer) -> tuple[float, float]:
    """Packets and bits a second of one picture size: frames cut into packets, the last one half full on average."""
    frame_bytes = layer.bitrate_bps / 8 / layer.frames_per_s
    packets = layer.frames_per_s * max(1.0, frame_bytes / PAYLOAD_BYTES + 0.5)
    return packets, layer.bitrate_bps + packets * HEADER_BYTES * 8


@functools.cache
def shown(camera: str, view: tuple[int, int]) -> Layer:
    """The layer that the relay forwards into a view: the smallest that fills 80 % of it."""
    layers = CAMERAS[camera]
    for layer in layers:
        if min(view[0] / layer.width, view[1] / layer.height) <= 1 / TOLERATED_SHORTAGE:
            return layer
    return layers[-1]


def sent(me: Behaviour, ecg_bytes_per_s: float) -> Flow:
    """What one participant gives the relay."""
    total = Flow()
    for layer in CAMERAS[me.camera] if me.camera else ():
        packets, bits = stream(layer)
        total += Flow(up_bps=bits, up_pps=packets)
    if me.microphone:
        total += Flow(up_bps=SOUND_BPS, up_pps=SOUND_PPS)
    if me.ecg:
        total += Flow(up_bps=wave_bps(ecg_bytes_per_s))
    return total


def copied(source: Behaviour, me: Behaviour, sounds: int, ecg_bytes_per_s: float) -> Flow:
    """What one participant gets of another, of ``sounds`` that it could hear."""
    total = Flow()
    if me.sees and source.camera:
        packets, bits = stream(shown(source.camera, me.view))
        total += Flow(down_bps=bits, down_pps=packets)
    if me.hears and source.microphone:
        heard = min(1.0, LOUDEST / sounds)
        total += Flow(down_bps=heard * SOUND_BPS, down_pps=heard * SOUND_PPS)
    if me.watches_ecg and source.ecg:
        total += Flow(down_bps=wave_bps(ecg_bytes_per_s))
    return total


def wave_bps(ecg_bytes_per_s: float) -> float:
    """Of one ECG source to one viewer, with all headers; RTP it is not, so it has no packets here."""
    return 8 * (ECG_COPIES * ecg_bytes_per_s + ECG_MESSAGES_PER_S * ECG_OVERHEAD_BYTES)


def flow(me: Behaviour, others: list[Behaviour], ecg_bytes_per_s: float) -> Flow:
    """One participant among others."""
    sounds = sum(one.microphone for one in others)
    return sum((copied(one, me, sounds, ecg_bytes_per_s) for one in others), sent(me, ecg_bytes_per_s))


def between(kind: Kind, ecg_bytes_per_s: float) -> dict[tuple[Site, Site], float]:
    """Bits a second of copies from publishers' sites to viewers' sites, by way of the relay, of one consult."""
    everybody = [name for name, count in kind.people.items() for _ in range(count)]
    found: dict[tuple[Site, Site], float] = dict.fromkeys(((one, two) for one in SITES for two in SITES), 0.0)
    for place, name in enumerate(everybody):
        others = [one for index, one in enumerate(everybody) if index != place]
        sounds = sum(BEHAVIOURS[one].microphone for one in others)
        for other in others:
            copy = copied(BEHAVIOURS[other], BEHAVIOURS[name], sounds, ecg_bytes_per_s)
            found[kind.sites[other], kind.sites[name]] += copy.down_bps
    return found


def people(kind: Kind) -> Iterator[tuple[Behaviour, list[Behaviour], Site]]:
    """Each participant with all the others and where it is."""
    everybody = [name for name, count in kind.people.items() for _ in range(count)]
    for index, name in enumerate(everybody):
        others = [BEHAVIOURS[one] for place, one in enumerate(everybody) if place != index]
        yield BEHAVIOURS[name], others, kind.sites[name]


@dataclass(frozen=True, slots=True)
class Shape:
    """One consult of a kind, while it runs."""

    flows: Mapping[Site, Flow]
    sessions: int
    ecgs: int
    pages_per_s: float
    turns_per_s: float
    passwords: int

    @property
    def all(self) -> Flow:
        """Of all sites: up is what the relay takes, down what it sends."""
        return sum(self.flows.values(), Flow())


def shape(kind: Kind, ecg_bytes_per_s: float) -> Shape:
    """What a consult of this kind does."""
    flows = dict.fromkeys(SITES, Flow())
    pages = 0.0
    members = [BEHAVIOURS[name] for name, count in kind.people.items() for _ in range(count)]
    for me, others, site in people(kind):
        flows[site] += flow(me, others, ecg_bytes_per_s)
        pages += 1 / me.page_every_s if me.page_every_s else 0.0
    leader = next((one for one in members if one.leads), None)
    return Shape(
        flows=flows, sessions=len(members), ecgs=sum(one.ecg for one in members), pages_per_s=pages,
        turns_per_s=1 / leader.turn_every_s if leader and leader.turn_every_s else 0.0,
        passwords=sum(one.who == "doctor" for one in members),
    )  # fmt: skip
