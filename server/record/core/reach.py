"""Whose resources a caller may see: the one rule of access to the record.

A person reaches the patients of her consults, and the directory; a hospital's
gateway reaches what came from that hospital. Everything else looks as if it did
not exist. The search reads only the partitions named here, and what it has read
is asked again one by one (`Reach.covers`): two locks, by different means.
"""

from collections.abc import Collection
from dataclasses import dataclass

from server.record.core.index import DIRECTORY_PARTITION, owner_partition, patient_partition
from server.record.core.params import TYPES


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be seen; exactly one of the two is set.

    Args:
        patients: a person's: these patients and the directory.
        owner: a backend's: whatever came from this hospital.
    """

    patients: frozenset[str] | None = None
    owner: str | None = None

    def __post_init__(self) -> None:
        assert (self.patients is None) != (self.owner is None), "a reach is a person's or a hospital's"

    @classmethod
    def of_patients(cls, patients: Collection[str]) -> "Reach":
        """A person's."""
        return cls(patients=frozenset(patients))

    @classmethod
    def of_hospital(cls, hospital: str) -> "Reach":
        """A backend's."""
        return cls(owner=hospital)

    def covers(self, patient: str | None, owner: str) -> bool:
        """Whether a resource of this patient (None: the directory) from this hospital may be seen."""
        if self.patients is None:
            return owner == self.owner
        return patient is None or patient in self.patients

    def partitions(self, kind: str, asked: frozenset[str] | None) -> list[int]:
        """Partitions that a search of ``kind`` reads; none when nothing can be found.

        Args:
            asked: the patients that the query names, None when it names none.
        """
        if not in_compartment(kind):
            return [] if asked is not None else [self._all_of_directory()]
        patients = asked if self.patients is None else self.patients if asked is None else self.patients & asked
        if patients is None:
            assert self.owner is not None
            return [owner_partition(self.owner)]
        return sorted(map(patient_partition, patients))

    def whose(self, asked: frozenset[str] | None) -> list[str]:
        """A person's patients that a search of theirs reads, by id."""
        assert self.patients is not None, "a hospital has no list"
        return sorted(self.patients if asked is None else self.patients & asked)

    def _all_of_directory(self) -> int:
        return DIRECTORY_PARTITION if self.owner is None else owner_partition(self.owner)


def in_compartment(kind: str) -> bool:
    """Whether resources of a type belong to a patient."""
    return bool(TYPES[kind].patient)
