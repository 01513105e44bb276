"""Which source a command line names, and the words for what it cannot be.

``simulator``, ``simulator:af``, ``file:/path/record.dcm``, ``lsl:NAME`` (or ``lsl:`` for the only ECG
there is), ``hl7:/folder``.
"""

from pathlib import Path
from typing import Final

from media.sources import LiveSource, SourceError, read_path
from media.sources.lsl import LslSource
from media.sources.oru import OruFolder
from media.sources.playback import PlayedRecording
from media.sources.simulator import Artefact, ArtefactKind, Rhythm, Settings, SimulatedMonitor
from server.exits import Exit, StartError

KINDS: Final = "simulator[:RHYTHM], file:PATH, lsl:[NAME] or hl7:FOLDER"


def choose(source: str, *, rate_bpm: float | None, artefacts: list[str], seed: int) -> LiveSource:
    """The source.

    Raises:
        StartError: there is no such kind, rhythm, artefact or file; one sentence says what there is.
    """
    kind, _, rest = source.partition(":")
    if (rate_bpm is not None or artefacts) and kind != "simulator":
        raise StartError(
            Exit.SETTINGS, "--rate and --artefact belong to the simulator: a real signal is never changed."
        )
    match kind:
        case "simulator":
            return _simulator(rest, rate_bpm, artefacts, seed)
        case "file":
            try:
                return PlayedRecording(read_path(Path(rest)), report_patient=True)
            except SourceError as error:
                raise StartError(Exit.SETTINGS, f"{rest}: {error.en} {error.zh} ({error})") from None
        case "lsl":
            return LslSource(rest)
        case "hl7" if rest:
            return OruFolder(Path(rest), errors=_passed_over)
        case _:
            raise StartError(Exit.SETTINGS, f"--source must be {KINDS}.")


def _passed_over(name: str, error: SourceError) -> None:
    print(f"{name}: {error.zh} {error.en} ({error.code})", flush=True)


def _simulator(rhythm: str, rate_bpm: float | None, artefacts: list[str], seed: int) -> LiveSource:
    try:
        settings = Settings(
            rhythm=Rhythm(rhythm or "sinus"),
            rate_bpm=rate_bpm,
            seed=seed,
            artefacts=tuple(map(_artefact, artefacts)),
        )
    except ValueError as problem:
        rhythms, kinds = ", ".join(Rhythm), ", ".join(ArtefactKind)
        raise StartError(Exit.SETTINGS, f"{problem}. Rhythms: {rhythms}. Artefacts: {kinds}.") from None
    return SimulatedMonitor(settings)


def _artefact(text: str) -> Artefact:
    """``kind[:where[:from-until]]``, seconds: ``off:V2:10-20``."""
    kind, _, rest = text.partition(":")
    where, _, span = rest.partition(":")
    begin, _, end = span.partition("-")
    return Artefact(
        kind=ArtefactKind(kind),
        where=where,
        from_s=float(begin) if begin else 0.0,
        until_s=float(end) if end else float("inf"),
    )
