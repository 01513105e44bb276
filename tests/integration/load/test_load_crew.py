"""Generators that do not start, end early or may not open enough files: each says why, before or when it happens."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from load_tests.plan.reading import Exit, RunError
from load_tests.plan.timetable import files_for
from load_tests.run.crew import _start, check_files, crew, how_ended
from load_tests.run.link import LinkLost, new_key

DEADLINE_S = 60


async def test_a_generator_that_ends_says_how() -> None:
    async with asyncio.timeout(DEADLINE_S), crew(2, []) as hands:
        broken, killed = hands
        assert all(hand.files >= 256 for hand in hands)  # as many as the system allows: told with the clock
        check_files(hands, 20)
        for hand in hands:
            hand.files = files_for(100)
        check_files(hands, 200)
        with pytest.raises(
            RunError, match=f"local-0 may have {files_for(100)} open files, .* needs {files_for(101)}"
        ) as no:
            check_files(hands, 201)
        assert no.value.exit_code is Exit.GENERATOR

        # What one of its own works or orders ends with is told to the coordinator, and by the process.
        await broken.link.send({"do": "play", "origins": ["http://127.0.0.1:9"], "scenario": {"name": "?"}})
        told = await broken.link.receive()
        assert told["is"] == "failed"
        assert "ValidationError" in told["why"]
        assert broken.process is not None
        await broken.process.wait()
        assert any("ValidationError" in line for line in broken.said)

        assert killed.process is not None
        killed.process.kill()
        with pytest.raises(LinkLost) as gone:
            await killed.link.receive()
        assert await killed.last_word(gone.value) == "killed by SIGKILL"


async def test_a_generator_that_does_not_start_says_why() -> None:
    async with asyncio.timeout(DEADLINE_S), contextlib.AsyncExitStack() as stack:
        with pytest.raises(RunError, match=r"ended with code 2; it said last: .*a key has 64 hex digits") as no:
            await _start(stack, new_key()[:-2])
        assert no.value.exit_code is Exit.GENERATOR


def test_the_end_of_a_process_in_words() -> None:
    assert how_ended(-11, ["", "Fatal Python error: Segmentation fault"]) == (
        "killed by SIGSEGV; it said last: Fatal Python error: Segmentation fault"
    )
    assert how_ended(3, []) == "its process ended with code 3"
    assert how_ended(-200, []) == "killed by signal 200"
