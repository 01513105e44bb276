"""Consults of snapshots, parsed once for each text: nothing of what is stored now is remembered."""

from __future__ import annotations

from server.storage.consult_store import MAX_MEANINGS, Meanings
from signaling.core.ids import ConsultId
from signaling.core.model import ConsultStatus
from tests.signaling_kit import CONSULT, consult


def test_a_text_means_the_same_and_another_text_something_else() -> None:
    """(W19) Whatever was read before, the answer is that of the text in hand."""
    meanings, before = Meanings(), consult()
    after = before.model_copy(update={"revision": 7})
    first = meanings.of(CONSULT, before.model_dump_json())
    assert first == before
    assert meanings.of(CONSULT, before.model_dump_json()) is first
    assert meanings.of(CONSULT, after.model_dump_json()) == after
    assert meanings.of(CONSULT, before.model_dump_json()) == before
    assert meanings.of(CONSULT, None) is None
    assert not meanings._known


def test_what_is_remembered_is_bounded_and_nothing_of_what_has_ended() -> None:
    meanings = Meanings()
    ended = consult().model_copy(update={"status": ConsultStatus.ENDED})
    assert meanings.of(CONSULT, ended.model_dump_json()) == ended
    assert not meanings._known
    for number in range(MAX_MEANINGS + 3):
        meanings.of(ConsultId(f"c{number}"), consult().model_dump_json())
    assert len(meanings._known) == MAX_MEANINGS
    assert ConsultId("c0") not in meanings._known
