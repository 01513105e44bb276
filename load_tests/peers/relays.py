"""Our relay beside Janus VideoRoom and stock aiortc, in one run, behind the same cable.

All relays stand in one network namespace on one core, the generator in another on the
other core (``namespaces``). Every subscriber of every relay is the same ``LoadPeer``:
ICE, DTLS-SRTP with AEAD_AES_128_GCM and nothing else, receiver reports, transport-wide
feedback, NACKs that must be answered; the publisher hears transport-wide feedback. The
same packets go to each relay in turns, several short rounds each, so that what disturbs
the machine disturbs all; medians are compared.

**Points.** 3, 10, 50 and 100 subscribers at 250 packets a second in, evenly spaced
(``paced``) and as whole video frames (``bursts``).

**Near one full core** (``near_full``): 50 subscribers, bursts, each relay at the rate that
takes it to ``FULL_SHARE`` of a core with everything delivered. A short search finds the
rate: from a measured share the next guess is proportional; a rate at which packets are
missing is too high. Where the generator gives out first, the highest rate it can do is
taken, and ``core_share`` tells how near that was. ``janus_best`` is measured at its own
rate too; for latency at equal packets we are measured at Janus's rate as well
(``near_full_of_janus``).

**aiortc** decodes and encodes again, so it gets a real VP8 and Opus stream of its own
(``aiortc_hub``) and few subscribers; its figure is CPU over what it sent.

Contenders that cannot run here are left out with a note.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence

from load_tests.bench.options import Options, own_core, parse_options
from load_tests.bench.relay import ARRIVALS, PPS_IN, describe, emit_all, in_turns, our_workers
from load_tests.peers.aiortc_hub import AiortcHub, HubFailed
from load_tests.peers.janus import Janus, JanusFailed
from load_tests.rig import namespaces
from load_tests.rig.contenders import Contender, OurWorker
from load_tests.rig.drive import IDLE_FLOOR, Arrival, Load, Round, measure_round
from load_tests.rig.figures import note
from load_tests.rig.namespaces import GENERATOR_ADDRESS, RELAY_ADDRESS
from load_tests.rig.peer import PeerFailed
from load_tests.rig.poller import Poller

FULL_SHARE = 0.9
FULL_MARGIN = 0.04
STARVED_SHARE = 0.7
FULL_SUBSCRIBERS = 50
FULL_ARRIVAL: Arrival = "bursts"
FIRST_PPS = 1000.0
SEARCH_STEPS = 7
SEARCH_WINDOW_S = 0.6
AIORTC_SUBSCRIBERS = (3, 10)


class Comparison:
    """One run of all points.

    Args:
        ours: our worker on its paths.
        others: relays that take the same packets.
        aiortc: the one that takes its own, or None.
    """

    def __init__(
        self,
        poller: Poller,
        options: Options,
        ours: Sequence[OurWorker],
        others: Sequence[Contender],
        aiortc: AiortcHub | None,
    ) -> None:
        self._poller = poller
        self._options = options
        self._ours = ours
        self._others = list(others)
        self._aiortc = aiortc

    async def run(self) -> None:
        """From few subscribers to many."""
        for subscribers in self._options.subscribers:
            await self._grow(subscribers)
            transcoded = await self._transcoded(subscribers)
            for arrival in ARRIVALS:
                await self._point(Load(arrival, PPS_IN), subscribers, transcoded)
            if subscribers == FULL_SUBSCRIBERS:
                await self._near_full()

    async def _grow(self, subscribers: int) -> None:
        note(f"peers: connecting {subscribers} subscribers to each relay")
        for ours in self._ours:
            await ours.add_viewers(subscribers)
        for other in list(self._others):
            try:
                await other.add_viewers(subscribers)
            except (JanusFailed, PeerFailed) as error:
                note(f"peers: {other.name} left out from here on: {error}")
                self._others.remove(other)

    async def _point(self, load: Load, subscribers: int, transcoded: dict[str, list[Round]]) -> None:
        note(f"peers: {subscribers} subscribers, {load.arrival}, {PPS_IN} packets/s in")
        everyone: list[Contender] = [*self._ours, *self._others]
        rounds = await in_turns(self._poller, {one.name: (one, load) for one in everyone}, self._options)
        against = {other.name: rounds[other.name] for other in self._others}
        for name, measured in against.items():
            if not any(one.valid and one.kept_up for one in measured):
                note(f"peers: {name} has no valid round at {subscribers} subscribers, {load.arrival}")
        against |= transcoded
        for ours in self._ours:
            params = describe(rounds[ours.name], load, subscribers)
            emit_all(rounds[ours.name], {**params, "path": ours.path, "link": "veth", "point": "250"}, against)

    async def _near_full(self) -> None:
        everyone: list[Contender] = [*self._ours, *self._others]
        loads = {one.name: (one, Load(FULL_ARRIVAL, await self._full_rate(one))) for one in everyone}
        rounds = await in_turns(self._poller, loads, self._options)
        rates = {f"pps_in_{other.name}": round(loads[other.name][1].pps) for other in self._others}
        shares = {
            f"core_share_{other.name}": describe(rounds[other.name], loads[other.name][1], 0)["core_share"]
            for other in self._others
        }
        against = {other.name: rounds[other.name] for other in self._others}
        for ours in self._ours:
            load = loads[ours.name][1]
            params = describe(rounds[ours.name], load, FULL_SUBSCRIBERS) | rates | shares
            emit_all(rounds[ours.name], {**params, "path": ours.path, "link": "veth", "point": "near_full"}, against)
        if "janus_best" in loads:
            await self._at_rate_of(loads["janus_best"])

    async def _at_rate_of(self, other: tuple[Contender, Load]) -> None:
        """Latency of ours and of the other at the other's full rate."""
        theirs, load = other
        loads: dict[str, tuple[Contender, Load]] = {ours.name: (ours, load) for ours in self._ours}
        rounds = await in_turns(self._poller, {**loads, theirs.name: (theirs, load)}, self._options)
        for ours in self._ours:
            params = describe(rounds[ours.name], load, FULL_SUBSCRIBERS)
            named = {**params, "path": ours.path, "link": "veth", "point": "near_full_of_janus"}
            emit_all(rounds[ours.name], named, {theirs.name: rounds[theirs.name]})

    async def _full_rate(self, contender: Contender) -> float:
        """Packets a second in that take a relay near a full core."""
        note(f"peers: looking for the rate that fills a core of {contender.name}")
        pps, best = FIRST_PPS, FIRST_PPS / 2
        ceiling = float("inf")
        for _ in range(SEARCH_STEPS):
            load = Load(FULL_ARRIVAL, pps)
            measured = measure_round(
                self._poller, contender.publisher, contender.viewers, contender.cpu_s, load, SEARCH_WINDOW_S
            )
            await asyncio.sleep(0.2)
            if not too_much(measured):
                best = pps
                if abs(measured.core_share - FULL_SHARE) <= FULL_MARGIN:
                    break
            pps, ceiling = next_rate(pps, ceiling, measured)
        note(f"peers: {best:.0f} packets/s in")
        return best

    async def _transcoded(self, subscribers: int) -> dict[str, list[Round]]:
        """aiortc's rounds at this point, if it takes part."""
        if self._aiortc is None or subscribers not in AIORTC_SUBSCRIBERS:
            return {}
        note(f"peers: aiortc with {subscribers} subscribers")
        try:
            await self._aiortc.add_viewers(subscribers)
        except (PeerFailed, HubFailed) as error:
            note(f"peers: aiortc left out: {error}")
            self._aiortc = None
            return {}
        return {self._aiortc.name: [self._aiortc.measure(self._options.seconds) for _ in range(self._options.rounds)]}


def too_much(measured: Round) -> bool:
    """The relay or the generator cannot do this rate.

    A relay that lost packets although it had not had its core was kept off it by something else on the machine, and
    a late send is the machine's doing too: neither says anything about the rate.
    """
    relay_full = not measured.kept_up and measured.core_share >= STARVED_SHARE
    return relay_full or measured.overflowed > 0 or measured.send_failed > 0 or measured.idle_share < IDLE_FLOOR


def next_rate(pps: float, ceiling: float, measured: Round) -> tuple[float, float]:
    """Where to look next for the rate that fills a core, and the lowest rate known to be too much.

    Costs fall with the rate (longer runs), so a proportional guess is a little low and is
    made again; a rate that was too much bounds all later guesses.
    """
    if too_much(measured):
        return pps * 0.8, min(ceiling, pps)
    guess = pps * min(3.0, FULL_SHARE / max(0.05, measured.core_share))
    return (guess if guess < ceiling else (pps + ceiling) / 2), ceiling


async def compare(options: Options, core: int) -> None:
    """Everything, inside the generator's namespace."""
    poller = Poller()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(poller.close)
        side = stack.enter_context(namespaces.relay_side(core))
        ours = await stack.enter_async_context(our_workers(poller, GENERATOR_ADDRESS, RELAY_ADDRESS, side.launch))
        others: list[Contender] = []
        for name, loops in (("janus_best", 1), ("janus_default", None)):
            janus = Janus(poller, name, loops)
            stack.push_async_callback(janus.close)
            try:
                await janus.open(GENERATOR_ADDRESS, side.launch)
                others.append(janus)
            except (JanusFailed, PeerFailed, OSError) as error:
                note(f"peers: {name} left out: {error}")
        hub = AiortcHub(poller)
        stack.push_async_callback(hub.close)
        transcoder: AiortcHub | None = None
        try:
            await hub.open(GENERATOR_ADDRESS, side.launch)
            transcoder = hub
        except (HubFailed, PeerFailed, OSError) as error:
            note(f"peers: aiortc left out: {error}")
        await Comparison(poller, options, ours, others, transcoder).run()


def run(options: Options | None = None) -> None:
    """The comparison, in namespaces of its own; left out with a note where they cannot be had."""
    reason = namespaces.why_not()
    if reason is not None:
        note(f"peers: left out, no network namespaces here: {reason}")
        return
    code = namespaces.run_inside("load_tests.peers.relays", (options or Options()).as_arguments())
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    chosen = parse_options(sys.argv[1:])
    with own_core(chosen.nice) as relay_core:
        asyncio.run(compare(chosen, relay_core))
