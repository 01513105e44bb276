"""Which other processes are alive, judged by what each of them last wrote and by one's own clock alone. [SE8] (W19)

A process that dies can say nothing, so each says every second and a half that it lives, and who has not is dead.
Clocks of two machines differ by more than that: only whether a word is *another* one counts, never what time it names.
And a database that was away for a while kept everybody from writing: time counts only between two looks that both
succeeded, and never more of it than one look should take.

Consults ask it of processes that have participants, FHIRcast of those that outside programs are connected to.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class _Heard:
    word: int
    unchanged_s: float = 0.0


class Standing:
    """What one process knows of the others.

    Args:
        dead_s: for how long a process may say nothing new.
        look_s: how often `look` is meant to be called.
    """

    def __init__(self, dead_s: float, look_s: float) -> None:
        self._dead_s = dead_s
        self._longest_s = 2 * look_s
        self._heard: dict[str, _Heard] = {}
        self._looked_s: float | None = None

    def look(self, words: Mapping[str, int], now_s: float) -> set[str]:
        """Take in what each process said last.

        Args:
            words: by process, anything that differs each time.
            now_s: monotonic.

        Returns:
            Processes that are dead: those that are silent, and not those that are no longer asked about.
        """
        passed_s = 0.0 if self._looked_s is None else min(now_s - self._looked_s, self._longest_s)
        self._looked_s = now_s
        before, self._heard = self._heard, {}
        for process, word in words.items():
            known = before.get(process)
            same = known is not None and known.word == word
            self._heard[process] = _Heard(word, known.unchanged_s + passed_s if known is not None and same else 0.0)
        return {process for process, heard in self._heard.items() if heard.unchanged_s >= self._dead_s}
