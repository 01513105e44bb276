"""What a hospital's operator does by hand with a crossing: send it again, or give it up. [LK23]

Both are on record on both sides: a row in the journal with who and why, and a crossing of the lock's own that the hub
writes into its audit chain. Why is one word of a list, since what somebody types may name a patient (G8).
"""

from server.clock import server_clock_us
from server.exits import Exit, StartError
from server.gateway.config import Folder, journal_keys, load_config
from server.gateway.core.crossing import LockRefused
from server.gateway.journal import Journal
from server.lock.core.wire import OPERATOR_REASONS

_NOT = {
    "resend": "is not one that the hub refused or never got, or its content is gone",
    "discard": "neither waits nor was refused",
}


async def operate(folder: Folder, action: str, crossing: int, reason: str, who: str) -> str | None:
    """Do it, also beside the running gateway; None, or why not.

    Raises:
        StartError: the journal cannot be used.
    """
    assert reason in OPERATOR_REASONS, "checked by the command line"
    if not folder.journal.exists():
        raise StartError(Exit.DATA_DIR, f"There is no journal in {folder.path}: nothing has crossed here yet.")
    journal = Journal(folder.path, journal_keys(folder), load_config(folder).journal.limits, server_clock_us())
    try:
        work = journal.resend if action == "resend" else journal.discard
        done = await work(crossing, reason, who)
    except LockRefused as refused:
        raise StartError(Exit.DATABASE, f"Not now: {refused.code.value}, {refused.reason}.") from None
    finally:
        await journal.close()
    return None if done else f"Crossing {crossing} {_NOT[action]}. `consilium gateway queue` lists what can be."
