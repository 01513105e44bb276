"""The store contract on the adapter that lives in this plane."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from signaling.aio.memory import MemoryStore
from signaling.core.model import Consult, PatientBanner
from signaling.core.ports import ConsultStore
from tests.contract.consult_store_suite import REPORT, ConsultStoreSuite, MakeStore


class TestMemoryStore(ConsultStoreSuite):
    @pytest.fixture
    def make_store(self) -> MakeStore:
        async def make(consult: Consult, patients: Sequence[PatientBanner]) -> ConsultStore:
            store = MemoryStore()
            store.add(consult, patients, [(patients[0].id, REPORT)])
            return store

        return make
