"""`make bench`: every figure of the project on standard output, one JSON object a line.

Without names all suites run, in some twenty minutes on two cores; the options shorten or
lengthen the rounds. Progress goes to standard error. The machine should do nothing else:
figures that something spoiled say so (``params.valid``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from load_tests.bench import browser, data, generator, linear, page_turn, recovery, relay, steps
from load_tests.bench.ecg import archive as ecg_archive
from load_tests.bench.ecg import codec as ecg_codec
from load_tests.bench.ecg import draw as ecg_draw
from load_tests.bench.ecg import latency as ecg_latency
from load_tests.bench.ecg import relay as ecg_relay
from load_tests.bench.ecg import skew as ecg_skew
from load_tests.bench.lock import read as lock_read
from load_tests.bench.options import Options, add_options, options_of
from load_tests.bench.record import million as record_million
from load_tests.bench.record import opening as record_opening
from load_tests.peers import consults as consult_peers
from load_tests.peers import relays as relay_peers
from load_tests.peers import signalling as signalling_peers
from load_tests.rig.figures import note

SUITES: dict[str, tuple[Callable[[Options], None], str]] = {
    "relay": (relay.run, "cost of a packet on our paths, loopback"),
    "peers": (relay_peers.run, "the same beside Janus and aiortc, behind one cable"),
    "consult_peers": (lambda _: consult_peers.run(), "rooms of three cameras and nine watchers beside Janus VideoRoom"),
    "steps": (steps.run, "where our own cost goes"),
    "linear": (linear.run, "cost of a packet beside idle consults"),
    "data": (lambda _: data.run(rounds=3, round_s=4.0), "media delay with and without a waveform"),
    "ecg_codec": (lambda _: ecg_codec.run(), "bytes and time of a waveform beside int16 and FHIR"),
    "ecg_relay": (ecg_relay.run, "how many ECGs to six viewers each one worker on one core relays"),
    "ecg_archive": (lambda _: ecg_archive.run(), "what a hundred live ECGs cost the hub, heart rates included"),
    "ecg_latency": (lambda _: ecg_latency.run(), "capture to pixel through a bad network, in real Chromium"),
    "ecg_skew": (lambda _: ecg_skew.run(), "ECG against video, read from the screen, in real Chromium"),
    "ecg_draw": (lambda _: ecg_draw.run(), "drawing twelve leads beside uPlot, in real Chromium"),
    "generator": (lambda _: generator.run(), "what a packet costs a load generator, in C and in Python"),
    "lock": (lambda _: lock_read.run(), "what a read through the lock costs beside a direct one"),
    "page_turn": (lambda _: page_turn.run(), "a page turn to 10 and 100 followers, beside a bare python-socketio room"),
    "signalling_peers": (lambda _: signalling_peers.run(), "rooms of 10 to 300 beside Node's socket.io and a bare one"),
    "browser": (lambda _: browser.run(), "what people wait for, in real Chromium"),
    "record": (lambda _: record_million.run(), "the record at 10 k, 100 k and a million resources; takes long"),
    "record_open": (lambda _: record_opening.run(), "a patient of 10,000 resources beside one of 100, real Chromium"),
    "recovery": (lambda _: recovery.run(), "picture and waveform after the death of a media worker"),
}


def main() -> int:
    """Run all suites, or only those named on the command line."""
    listed = "\n".join(f"  {name:16} {what}" for name, (_, what) in SUITES.items())
    parser = argparse.ArgumentParser(
        prog="load_tests.bench",
        description="Figures, one JSON object a line.",
        epilog=f"suites:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suites", nargs="*", metavar="suite", help="which ones; all when none is named")
    add_options(parser)
    parsed = parser.parse_args()
    wanted = parsed.suites or list(SUITES)
    unknown = [name for name in wanted if name not in SUITES]
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(SUITES)}", file=sys.stderr)
        return 2
    for name in wanted:
        note(f"== {name}: {SUITES[name][1]}")
        SUITES[name][0](options_of(parsed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
