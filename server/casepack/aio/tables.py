"""Completeness tables from files: ours, and over them a hospital's own."""

from pathlib import Path

from server.casepack.core.tables import Table, TableInvalid, read_tables

OURS = Path(__file__).parent.parent / "tables"
MOST_FILES = 100


def load_tables(folder: Path | None = None) -> dict[str, Table]:
    """Tables by specialty.

    Args:
        folder: of a hospital's own ``*.toml``; one of a specialty that we have replaces ours.

    Raises:
        TableInvalid: a file cannot be used; nothing is left out silently.
    """
    files = sorted(OURS.glob("*.toml"))
    if folder is not None:
        own = sorted(folder.glob("*.toml"))
        if not own or len(own) > MOST_FILES:
            raise TableInvalid(f"{folder}: 1 to {MOST_FILES} files *.toml")
        files += own
    try:
        return read_tables({str(file): file.read_text(encoding="utf-8") for file in files})
    except (OSError, UnicodeDecodeError) as problem:
        raise TableInvalid(f"{folder}: {type(problem).__name__}") from None
