"""Open a stopped server's data folder and compare it with what its sessions were told (`kept`); alone in a process.

It reads with the product's own parts: the chain's verifier, the archive's reader, and what the archive shows people as
gaps. Standard input has what is looked for, standard output gets what was found.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select

from load_tests.run.kept import Asked, Kept
from media.core.waveform import MalformedFrame, WaveformFrame, parse_frame
from server.app import ANCHORS, require_schema
from server.settings import load_settings
from server.storage import audit
from server.storage.audit import AnchorFile
from server.storage.database import Database
from server.storage.models import EventRow, WaveformArchiveRow
from server.waveforms import rows
from server.waveforms.archive import Archive
from server.waveforms.blobs import FolderBlobs
from server.waveforms.core.breaks import Break
from server.waveforms.ring import MemoryRing

ALL_US: Final = 2**53
PAGE_ROWS: Final = 2_000
PAGE_BYTES: Final = 4 << 20
EDGE_S: Final = 2.0
"""Frames on their way when a device began or ended, and nothing more, may be missing there without a word."""
EXAMPLES: Final = 20
UNIQUE: Final = frozenset({"page_turned", "note_put"})
"""Kinds whose names are given once; of others there are at least as many as were acknowledged."""


@dataclass
class Found:
    """Counts that grow."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def wrong(self, what: str, sentence: str, times: int = 1) -> None:
        """Something that must not be."""
        self.counts[what] += times
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{what}: {sentence}")


def name_in(kind: str, body: dict[str, Any]) -> str:
    """What an acknowledged action is known by, from its event."""
    match kind:
        case "page_turned":
            return str(body["view"]["item"])
        case "note_put":
            return str(body["note"]["text"])
        case "device_bound":
            return str(body["binding"]["device"])
    return ""


async def check_actions(database: Database, asked: Asked, found: Found) -> None:
    """Every acknowledged action stands in the log; those with names of their own once."""
    told = Counter((kind, asked.consults[consult], name) for kind, consult, name, _ in asked.acks)
    logged: Counter[tuple[str, str, str]] = Counter()
    query = select(EventRow.seq, EventRow.kind, EventRow.consult_id, EventRow.body).order_by(EventRow.seq)
    query = query.where(EventRow.kind.in_({one[0] for one in told})).limit(PAGE_ROWS)
    seq, more = 0, True
    while more:
        async with database.read() as session:
            page = (await session.execute(query.where(EventRow.seq > seq))).all()
        more = len(page) == PAGE_ROWS
        seq = page[-1].seq if page else seq
        for _, kind, consult, body in page:
            logged[(kind, str(consult), name_in(kind, json.loads(body)))] += 1
    found.counts["acks_checked"] = sum(told.values())
    for one, times in told.items():
        if logged[one] < times:
            found.wrong("acks_lost", " ".join(one), times - logged[one])
    for one, times in logged.items():
        if one[0] in UNIQUE and one[2].startswith("load-") and times > 1:
            found.wrong("acks_doubled", " ".join(one), times - 1)


@dataclass(frozen=True)
class Stored:
    """Archives of one device in one consult, together."""

    frames: list[WaveformFrame]
    breaks: list[Break]


async def stored(archive: Archive, database: Database, consult: str, stream: int, found: Found) -> Stored:
    """All that is archived of a stream, and what is shown of its gaps."""
    query = select(WaveformArchiveRow.id).where(
        WaveformArchiveRow.consult_id == consult, WaveformArchiveRow.stream_id == stream
    )
    frames: list[WaveformFrame] = []
    breaks: list[Break] = []
    async with database.read() as session:
        known = [await rows.archive_by_id(session, one) for one in await session.scalars(query)]
    for one in known:
        assert one is not None
        after = None
        while True:
            page, after = await archive.between_us(one.info, 0, ALL_US, PAGE_BYTES, after)
            for encoded in page:
                try:
                    frames.append(parse_frame(encoded))
                except MalformedFrame as problem:
                    found.wrong("wave_invented", f"{consult} {stream}: {problem}")
            if after is None:
                break
        breaks += (await archive.breaks(one.info))[0]
    return Stored(frames, breaks)


def compare(sources: Sequence[tuple[int, ...]], there: Stored, found: Found) -> None:
    """One stream as it was measured, in one or several countings, against what is stored of it."""
    measured = {source[2]: source for source in sources}
    have: dict[int, set[int]] = {numbering: set() for numbering in measured}
    for frame in there.frames:
        source = measured.get(frame.numbering)
        if source is None or not 0 <= frame.seq < source[4]:
            found.wrong("wave_invented", f"stream {frame.stream_id}: {frame.numbering}/{frame.seq} was never measured")
        elif frame.context_version != source[3] or frame.t0_us != source[5] + frame.seq * source[6]:
            found.wrong("wave_invented", f"stream {frame.stream_id}: {frame.numbering}/{frame.seq} is another frame")
        elif frame.seq in have[frame.numbering]:
            found.wrong("wave_invented", f"stream {frame.stream_id}: {frame.numbering}/{frame.seq} is there twice")
        else:
            have[frame.numbering].add(frame.seq)
    gaps = [one for one in there.breaks if one.kind == "gap"]
    for _, stream, numbering, _, count, began_us, frame_us in sources:
        kept = have[numbering]
        found.counts["wave_frames"] += count
        found.counts["wave_kept"] += len(kept)
        missing = [seq for seq in range(count) if seq not in kept]
        edge = round(EDGE_S * 1e6 / frame_us)
        first, last = min(kept, default=count), max(kept, default=-1)
        for seq in missing:
            from_us, to_us = began_us + seq * frame_us, began_us + (seq + 1) * frame_us
            if any(gap.from_us <= from_us + 1_000 and gap.to_us >= to_us - 1_000 for gap in gaps):
                found.counts["wave_in_gaps"] += 1
            elif (seq < first and seq < edge) or (seq > last and seq >= count - edge):
                found.counts["wave_at_ends"] += 1
            else:
                found.wrong("wave_silent", f"stream {stream}: {numbering}/{seq} of {count}, kept {first} to {last}")


async def check(data_dir: Path, asked: Asked) -> Kept:
    """All of it."""
    settings = load_settings(data_dir=data_dir)
    database, found = Database(settings.database), Found()
    archive = Archive(FolderBlobs(settings.waveforms), MemoryRing(), lambda _info, _code: None)
    try:
        await require_schema(database)
        verdict = await audit.verify(database, AnchorFile(settings.data_dir / ANCHORS).read())
        if verdict.broken is not None:
            found.wrong("chain_broken", f"at row {verdict.broken.seq}: {verdict.broken.problem}")
        await check_actions(database, asked, found)
        streams: dict[tuple[int, int], list[tuple[int, ...]]] = {}
        for source in asked.waves:
            streams.setdefault((source[0], source[1]), []).append(source)
        for (consult, stream), sources in sorted(streams.items()):
            compare(sources, await stored(archive, database, asked.consults[consult], stream, found), found)
    finally:
        await archive.stop()
        await database.close()
    return Kept(chain_rows=verdict.rows, **found.counts, examples=tuple(found.examples))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compare a stopped server's data with what its sessions were told.")
    parser.add_argument("--data-dir", type=Path, required=True)
    chosen = parser.parse_args()
    print(asyncio.run(check(chosen.data_dir, Asked.model_validate_json(sys.stdin.read()))).model_dump_json())
