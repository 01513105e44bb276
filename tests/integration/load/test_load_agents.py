"""Generators on other machines, by one flag: two agents and a server, each in a network namespace of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from load_tests.plan.reading import Exit, read_scenario
from load_tests.report.summary import Summary
from load_tests.rig import namespaces
from load_tests.run.link import KEY_VARIABLE, new_key
from load_tests.session.world import needs_of

DEADLINE_S = 120
SERVER, PORT = "10.98.0.1", 8443
AGENTS = ("10.98.1.2", "10.98.2.2")
SCENARIO = """
name = "machines"
about = "A doctor from each machine."
duration_s = 115
sign_in = false
record_resources = 5
[[population]]
behaviour = "doctor"
change = { turn_every_s = 0.5 }
[[population]]
behaviour = "partner_doctor"
"""


class Namespace:
    """One nameless network namespace; the kernel removes it, and its cables, with its last process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @property
    def enter(self) -> list[str]:
        """In front of a command."""
        return ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net=/proc/{self.process.pid}/ns/net"]

    async def ip(self, *arguments: str) -> None:
        await run([*self.enter, "ip", *arguments])


async def run(command: Sequence[str], environment: dict[str, str] | None = None, text: str = "") -> str:
    """A command to its end; what it said."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            out, errors = await process.communicate(text.encode())
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, f"{command}: {process.returncode} {out.decode()[-600:]} {errors.decode()[-2000:]}"
    return out.decode()


async def until_complete(command: Sequence[str], environment: dict[str, str]) -> tuple[int, str]:
    """A load run, ended by Ctrl-C once both are there and hear each other; exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**environment, "PYTHONUNBUFFERED": "1"}
    )
    assert process.stdout is not None
    said, flowing = "", 0
    try:
        async with asyncio.timeout(DEADLINE_S):
            while line := (await process.stdout.readline()).decode():
                said += line
                found = re.search(r"2/2 joined, 2 complete, 4/4 tracks, (\d+) packets/s", line)
                flowing += found is not None and int(found[1]) > 50
                if found is not None and flowing == 2:
                    process.send_signal(signal.SIGINT)
            return await process.wait(), said
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def child(command: Sequence[str], environment: dict[str, str], says: str) -> AsyncIterator[None]:
    """A process for the length of the block; entered when it has said ``says``."""
    environment = environment | {"PYTHONUNBUFFERED": "1"}
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    )
    try:
        assert process.stdout is not None
        said = ""
        async with asyncio.timeout(DEADLINE_S):
            while says not in said:
                line = await process.stdout.readline()
                assert line, said
                said += line.decode()
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await process.communicate()
        if process.returncode is None:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def machines() -> AsyncIterator[tuple[Namespace, list[Namespace]]]:
    """A server's namespace with one address for all, and one for each agent, cabled to it."""
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for _ in range(1 + len(AGENTS)):
            holder = await asyncio.create_subprocess_exec(
                *namespaces._unshare(), "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            stack.push_async_callback(holder.wait)
            stack.callback(holder.kill)
            assert holder.stdin is not None
            assert holder.stdout is not None
            holder.stdin.write(b"\n")  # it answers once it is there
            assert await holder.stdout.readline()
            made.append(Namespace(holder))
        server, *agents = made
        await server.ip("link", "set", "lo", "up")
        await server.ip("address", "add", f"{SERVER}/32", "dev", "lo")
        for number, (agent, address) in enumerate(zip(agents, AGENTS, strict=True), 1):
            name, gate = f"agent{number}", f"10.98.{number}.1"
            await server.ip(
                "link", "add", name, "type", "veth", "peer", "name", "up0", "netns", str(agent.process.pid)
            )  # fmt: skip
            await server.ip("address", "add", f"{gate}/24", "dev", name)
            await server.ip("link", "set", name, "up")
            for command in (
                f"address add {address}/24 dev up0", "link set up0 up", "link set lo up",
                f"route add default via {gate}",
            ):  # fmt: skip
                await agent.ip(*command.split())
        yield server, agents


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
@pytest.mark.skipif(bool(namespaces.why_not()), reason=f"no network namespaces here: {namespaces.why_not()}")
@pytest.mark.long
@pytest.mark.timeout(240)
async def test_agents_on_two_machines_play_one_consult_against_a_server_on_a_third(tmp_path: Path) -> None:
    scenario, data = tmp_path / "machines.toml", tmp_path / "data"
    scenario.write_text(SCENARIO)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CONSILIUM_")}
    needs = needs_of(read_scenario(str(scenario))).model_dump_json()
    python = sys.executable
    await run([python, "-m", "server", "ca", SERVER, "--data-dir", str(data)], clean)
    trust = {**clean, "SSL_CERT_FILE": str(next((data / "tls").glob("*ca.crt"))), KEY_VARIABLE: new_key()}
    async with machines() as (server, agents), contextlib.AsyncExitStack() as stack:
        serve = [*server.enter, python, "-m", "server", "serve", "--host", SERVER, "--port", str(PORT)]
        own = {"CONSILIUM_MEDIA_ADDRESSES": SERVER, "CONSILIUM_MEDIA_WORKERS": "1", "CONSILIUM_DRAIN_S": "0"}
        await stack.enter_async_context(child([*serve, "--data-dir", str(data)], {**clean, **own}, "origin="))
        # The world is made beside the server while it runs, as an administrator does.
        world = await run([python, "-m", "load_tests.run.world_process", "--data-dir", str(data)], clean, needs)
        (tmp_path / "world.json").write_text(world)
        for agent, address in zip(agents, AGENTS, strict=True):
            listen = [*agent.enter, python, "-m", "load_tests.run.agent", "--once", "--listen", f"{address}:9700"]
            await stack.enter_async_context(child([*listen, "--target", SERVER], trust, "listening"))
        load = [*server.enter, python, "-m", "load_tests", str(scenario), "--against", f"https://{SERVER}:{PORT}"]
        names = ",".join(f"{one}:9700" for one in AGENTS)
        files = ["--world", str(tmp_path / "world.json"), "--results", str(tmp_path / "results")]
        code, said = await until_complete([*load, "--agents", names, *files], trust)
    assert code == Exit.INTERRUPTED, said

    (folder,) = (tmp_path / "results").iterdir()
    summary = Summary.model_validate_json((folder / "summary.json").read_text())
    assert not summary.same_host
    assert not summary.own_server
    assert [(one.name, one.sessions) for one in summary.generators] == [(f"{one}:9700", 1) for one in AGENTS], said
    assert summary.counts["joins_done"] == 2, json.dumps(summary.errors)
    # Each doctor's picture and sound came to the other machine.
    assert summary.counts["tracks_received"] == summary.counts["tracks_expected"] == 4
    assert summary.counts["frames_in"] > 0
    assert summary.distributions["event_ms"].count > 0
    assert not [one for one in summary.errors if one.startswith("bug")]
