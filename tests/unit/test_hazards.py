"""[W40] The hazard list names a row for every rule and only tests that exist; and what no code can show: words."""

from __future__ import annotations

import re
from pathlib import Path

from signaling.core import messages

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| W(\d+) \|(.*)\|\s*$", re.MULTILINE)
NAMED = re.compile(r"`([^`]+)`")
OF_THE_RECORD = {18, 19, 21, 23, 25}
"""Rules of the shared record, on its own list."""


def rows(file: str, row: re.Pattern[str] = ROW) -> list[tuple[str, list[str]]]:
    """Rule and the cells of each row: hazard, cause, control, test."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return [(rule, [cell.strip() for cell in rest.split(" | ")]) for rule, rest in row.findall(text)]


def exists(name: str) -> bool:
    """``file::function`` in Python or ``file "words"`` in TypeScript."""
    if "::" in name:
        stem, function = name.split("::")
        found = [*(ROOT / "tests").rglob(f"{stem}.py")]
        return any(re.search(rf"^\s*(async )?def {function}\(", path.read_text(), re.MULTILINE) for path in found)
    match = re.fullmatch(r'(\S+\.test\.tsx?) "(.+)"', name)
    if match is None:
        return False
    paths = (ROOT / "web_client" / "src").rglob(match[1])
    return any(match[2] in path.read_text(encoding="utf-8") for path in paths)


def test_every_rule_has_a_row_and_every_test_named_exists() -> None:
    """[W40]"""
    media, record = rows("media/HAZARDS.md"), rows("server/record/HAZARDS.md")
    assert {int(rule) for rule, _ in record} == OF_THE_RECORD
    assert {int(rule) for rule, _ in media} == set(range(1, 46)) - OF_THE_RECORD
    reading = rows("server/record/HAZARDS.md", re.compile(r"^\| R(\d+) \|(.*)\|\s*$", re.MULTILINE))
    assert reading
    for rule, cells in (*media, *record, *reading):
        assert len(cells) == 4, f"{rule} has hazard, cause, control and test"
        assert all(cells), f"{rule} has an empty cell"
        named = NAMED.findall(cells[3])
        assert named, f"{rule} has no test"
        missing = [name for name in named if not exists(name)]
        assert not missing, f"{rule} names tests that do not exist: {missing}"


def test_no_command_reaches_an_alarm() -> None:
    """[W37] [W38] Nothing a participant can say changes, silences or acknowledges an alarm, or sets a threshold."""
    commands = [
        kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, messages.Command)
    ]
    words = {part for kind in commands for name in (kind.__name__, *kind.model_fields) for part in _words(name)}
    assert len(commands) > 20
    assert not words & {"alarm", "alarms", "silence", "acknowledge", "threshold", "thresholds", "limit", "limits"}


def _words(name: str) -> list[str]:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().split("_")


def test_the_view_says_what_it_is_not_for() -> None:
    """[W15] The sentence is painted by the view itself, in both languages."""
    text = (ROOT / "web_client" / "src" / "waveform" / "words.ts").read_text(encoding="utf-8")
    assert "Remote display, delayed. Not for defibrillation, cardioversion, pacing or alarm use." in text
    assert len(re.findall(r"^  warning:|^    warning:", text, re.MULTILINE)) == 2


def test_the_manual_says_that_this_is_no_alarm_system() -> None:
    """[W35]"""
    manual = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for sentence in (
        "not a primary or secondary alarm system",
        "no audible alarm",
        "nothing to acknowledge or silence",
        "not a distributed alarm system in the sense of IEC 60601-1-8",
    ):
        assert sentence in manual


def test_the_manual_states_the_intended_use() -> None:
    """[W39]"""
    manual = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "between professionals" in manual
    assert "a qualified person is with the patient at all times" in manual


def test_the_script_for_people_has_every_critical_task() -> None:
    """[W41]"""
    text = (ROOT / "media" / "USABILITY.md").read_text(encoding="utf-8")
    tasks = set(re.findall(r"^\| ([a-z -]+) \|", text, re.MULTILINE))
    assert tasks >= {"confirm identity", "notice stale", "notice lead-off", "switch patient", "end"}
