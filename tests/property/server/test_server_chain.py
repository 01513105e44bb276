"""[G5] [C34] The audit chain: any single change of any row is found, and named."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from server.storage.chain import GENESIS, Link, canonical_json, first_break, link_hash

names = st.text(max_size=12)
optional_ids = st.none() | names
bodies = st.dictionaries(names, st.integers() | names | st.none(), max_size=3).map(canonical_json)
rows = st.lists(
    st.tuples(optional_ids, st.none() | st.integers(0, 9), names, st.integers(0, 2**50), names, bodies),
    min_size=1,
    max_size=8,
)


def chain(values: list[tuple[Any, ...]]) -> list[Link]:
    links: list[Link] = []
    last = GENESIS
    for seq, (consult, revision, kind, at_ms, actor, body) in enumerate(values, start=1):
        digest = link_hash(last, seq, consult, revision, kind, at_ms, actor, body)
        links.append(
            Link(
                seq=seq,
                consult_id=consult,
                revision=revision,
                kind=kind,
                at_ms=at_ms,
                actor=actor,
                body=body,
                prev_hash=last,
                hash=digest,
            )
        )
        last = digest
    return links


def problem(links: list[Link], head: Link, anchors: dict[int, bytes] | None = None) -> int | None:
    broken = first_break(links, head.seq, head.hash, anchors or {})
    return None if broken is None else broken.seq


@given(rows)
def test_an_untouched_chain_is_whole(values: list[tuple[Any, ...]]) -> None:
    links = chain(values)
    anchors = {link.seq: link.hash for link in links[::2]}
    assert problem(links, links[-1], anchors) is None


@given(rows, st.data())
def test_a_changed_field_is_found_at_its_row(values: list[tuple[Any, ...]], data: st.DataObject) -> None:
    links = chain(values)
    at = data.draw(st.integers(0, len(links) - 1))
    field, values_of_field = data.draw(
        st.sampled_from(
            [
                ("consult_id", optional_ids),
                ("revision", st.none() | st.integers(0, 9)),
                ("kind", names),
                ("at_ms", st.integers(0, 2**50)),
                ("actor", names),
                ("body", st.text(max_size=20)),
                ("prev_hash", st.binary(min_size=32, max_size=32)),
                ("hash", st.binary(min_size=32, max_size=32)),
            ]
        )
    )
    changed = data.draw(values_of_field)
    assume(changed != getattr(links[at], field))
    head = links[-1]
    links[at] = dataclasses.replace(links[at], **{field: changed})

    assert problem(links, head) == links[at].seq


@given(rows, st.data())
def test_a_removed_row_is_found(values: list[tuple[Any, ...]], data: st.DataObject) -> None:
    links = chain(values)
    head = links[-1]
    at = data.draw(st.integers(0, len(links) - 1))
    del links[at]

    assert problem(links, head) == at + 1


@given(rows, st.data())
def test_two_rows_exchanged_are_found(values: list[tuple[Any, ...]], data: st.DataObject) -> None:
    """The contents change places while the numbers stay in order."""
    links = chain(values)
    assume(len(links) > 1)
    one, other = sorted(data.draw(st.lists(st.integers(0, len(links) - 1), min_size=2, max_size=2, unique=True)))
    head = links[-1]
    links[one], links[other] = (
        dataclasses.replace(links[other], seq=links[one].seq),
        dataclasses.replace(links[one], seq=links[other].seq),
    )
    assert problem(links, head) == one + 1


@given(rows, st.data())
def test_a_tail_cut_off_together_with_the_head_is_found_by_an_anchor(
    values: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    """Without an anchor beyond the cut nothing can tell: the shorter chain is a valid chain."""
    links = chain(values)
    keep = data.draw(st.integers(0, len(links) - 1))
    anchor = data.draw(st.integers(keep + 1, len(links)))
    short = links[:keep]
    head_seq, head_hash = (short[-1].seq, short[-1].hash) if short else (0, GENESIS)

    assert first_break(short, head_seq, head_hash, {}) is None
    broken = first_break(short, head_seq, head_hash, {anchor: links[anchor - 1].hash})
    assert broken is not None
    assert broken.seq == keep + 1


@given(rows, st.data())
def test_a_chain_that_was_rewritten_as_a_whole_is_found_by_an_anchor(
    values: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    links = chain(values)
    at = data.draw(st.integers(0, len(values) - 1))
    forged_values = list(values)
    forged_values[at] = (*forged_values[at][:4], forged_values[at][4] + "x", forged_values[at][5])
    forged = chain(forged_values)

    assert problem(forged, forged[-1]) is None
    anchor = data.draw(st.integers(at + 1, len(links)))
    assert problem(forged, forged[-1], {anchor: links[anchor - 1].hash}) == anchor
