"""The dependency descriptor: which frames a packet belongs to and who needs them, for any codec.

A header extension of AV1's RTP payload format (appendix A), which browsers also send with VP9 and, on demand,
with others. It names a frame's template; the templates came with the last key frame and say
spatial and temporal layer and, per decode target (a choice of layers a receiver may make), whether the
frame is needed, can be skipped, or is a point to switch at. So an SVC stream is cut without
looking into the payload, which may be encrypted.

Only what a relay needs is kept: frame differences and chains are walked over.
Bytes come from peers: every ``parse`` raises `MalformedDescriptor` and nothing else.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

MANDATORY_BYTES: Final = 3
MAX_DESCRIPTOR_BYTES: Final = 255
MAX_TEMPLATES: Final = 64


class MalformedDescriptor(Exception):
    """The descriptor ends early, contradicts itself, or names a template that is not known."""


class Indication(IntEnum):
    """What a frame is to a decode target (appendix A.8.1)."""

    NOT_PRESENT = 0
    DISCARDABLE = 1
    SWITCH = 2
    REQUIRED = 3


@dataclass(frozen=True, slots=True)
class Template:
    """Frames that are alike."""

    spatial: int
    temporal: int
    indications: tuple[Indication, ...]
    """By decode target, 32 at most."""


@dataclass(frozen=True, slots=True)
class Structure:
    """What a key frame told about all that follows."""

    first_template: int
    templates: tuple[Template, ...]
    targets: tuple[tuple[int, int], ...]
    """(spatial, temporal) each decode target reaches."""
    resolutions: tuple[tuple[int, int], ...]
    """Width and height by spatial layer, empty when not told."""

    @property
    def spatial_layers(self) -> int:
        """How many."""
        return max(template.spatial for template in self.templates) + 1


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What one packet says."""

    first: bool
    """First packet of its frame."""
    last: bool
    frame_number: int
    spatial: int
    temporal: int
    indications: tuple[Indication, ...]
    targets: tuple[tuple[int, int], ...]
    """(spatial, temporal) that each indication is for."""
    key: bool
    """The frame begins a coded video sequence: it brought the structure."""


class _Bits:
    """Big-endian bit reader over one descriptor."""

    __slots__ = ("_left", "_value")

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise MalformedDescriptor("ends early")
        return self._value >> self._left & ((1 << count) - 1)

    def flag(self) -> bool:
        return self.take(1) == 1

    def non_symmetric(self, values: int) -> int:
        """ns(n) of the AV1 specification: a number below ``values`` in as few bits as it needs."""
        width = values.bit_length()
        short = (1 << width) - values
        value = self.take(width - 1) if width > 1 else 0
        if value < short:
            return value
        return (value << 1 | self.take(1)) - short


class DependencyReader:
    """Descriptors of one stream, in the order its packets came."""

    __slots__ = ("structure",)

    def __init__(self) -> None:
        self.structure: Structure | None = None

    def parse(self, data: bytes) -> Descriptor:
        """Read one descriptor; a structure in it replaces the one known.

        Raises:
            MalformedDescriptor: nothing was changed.
        """
        if not MANDATORY_BYTES <= len(data) <= MAX_DESCRIPTOR_BYTES:
            raise MalformedDescriptor("length")
        bits = _Bits(data)
        first, last = bits.flag(), bits.flag()
        template_id, frame_number = bits.take(6), bits.take(16)
        structure = self.structure
        brought = custom_indications = False
        if len(data) > MANDATORY_BYTES:
            brought, active = bits.flag(), bits.flag()
            custom_indications = bits.flag()
            bits.take(2)  # custom frame differences and chains: what stands behind them is not read
            if brought:
                structure = _structure(bits)
            if structure is None:
                raise MalformedDescriptor("no structure yet")
            if active:
                bits.take(len(structure.targets))
        if structure is None:
            raise MalformedDescriptor("no structure yet")
        index = (template_id - structure.first_template) % 64
        if index >= len(structure.templates):
            raise MalformedDescriptor("unknown template")
        template = structure.templates[index]
        indications = template.indications
        if custom_indications:
            indications = tuple(Indication(bits.take(2)) for _ in structure.targets)
        self.structure = structure
        return Descriptor(
            first,
            last,
            frame_number,
            template.spatial,
            template.temporal,
            indications,
            structure.targets,
            brought,
        )


def _structure(bits: _Bits) -> Structure:
    """template_dependency_structure() of appendix A.8.2."""
    first_template = bits.take(6)
    targets = bits.take(5) + 1
    layers = _template_layers(bits)
    indications = [tuple(Indication(bits.take(2)) for _ in range(targets)) for _ in layers]
    for _ in layers:
        _pass_frame_diffs(bits)
    chains = bits.non_symmetric(targets + 1)
    if chains:
        for _ in range(targets):
            bits.non_symmetric(chains)
        for _ in layers:
            for _ in range(chains):
                bits.take(4)
    templates = tuple(
        Template(spatial, temporal, wanted) for (spatial, temporal), wanted in zip(layers, indications, strict=True)
    )
    spatial_layers = max(spatial for spatial, _ in layers) + 1
    resolutions: tuple[tuple[int, int], ...] = ()
    if bits.flag():
        resolutions = tuple((bits.take(16) + 1, bits.take(16) + 1) for _ in range(spatial_layers))
    reach = tuple(_reach(templates, target) for target in range(targets))
    return Structure(first_template, templates, reach, resolutions)


def _template_layers(bits: _Bits) -> list[tuple[int, int]]:
    spatial = temporal = 0
    layers = []
    while True:
        layers.append((spatial, temporal))
        if len(layers) > MAX_TEMPLATES:
            raise MalformedDescriptor("too many templates")
        step = bits.take(2)
        if step == 1:
            temporal += 1
        elif step == 2:
            temporal, spatial = 0, spatial + 1
        elif step == 3:
            return layers
        if temporal > 7 or spatial > 3:
            raise MalformedDescriptor("too many layers")


def _pass_frame_diffs(bits: _Bits) -> None:
    while bits.flag():
        bits.take(4)


def _reach(templates: tuple[Template, ...], target: int) -> tuple[int, int]:
    """Highest spatial and temporal layer that a decode target takes in (appendix A.8.3.1)."""
    taken = [template for template in templates if template.indications[target] is not Indication.NOT_PRESENT]
    if not taken:
        return -1, -1
    return max(template.spatial for template in taken), max(template.temporal for template in taken)
