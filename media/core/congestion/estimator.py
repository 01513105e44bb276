"""What one viewer's line carries: the lesser of what delay, loss and the viewer's own REMB allow.

With transport-wide feedback the relay measures for itself (``delay``, ``rate``, ``loss``, ``probe``).
Without (pymediasoup knows REMB only) the viewer's REMB is the estimate, bounded by the loss in its
receiver reports.

When feedback stops although packets leave, nothing is known any more: the estimate is halved once a
second, so that a line that comes back is not met by what it carried before.

Feedback is paid for with our time, so it has a budget; what comes beyond it is not read.
"""

from typing import Final

from media.core.congestion.account import Account, Standing
from media.core.congestion.delay import DelayDetector, Usage
from media.core.congestion.loss import HIGH_LOSS, LossBound
from media.core.congestion.others import OthersQueue
from media.core.congestion.probe import CALM_QUEUE_US, Probe, ProbePlanner
from media.core.congestion.quiet import Spell
from media.core.congestion.rate import ArrivedRate, DelayRate
from media.core.congestion.sent import Matched, SentPackets
from media.core.twcc import ReceivedFeedback, WholeFeedback, read_feedback, read_whole

START_BPS: Final = 600_000
MIN_BPS: Final = 50_000
MAX_BPS: Final = 40_000_000
"""Paced at ``pacer.RATE_FACTOR`` times this: faster than any camera or screen sends."""
SILENCE_US: Final = 1_000_000
"""No feedback for so long while we send: ten intervals."""
REMB_VALID_US: Final = 10_000_000
"""libwebrtc repeats it every second, others more seldom."""
FEEDBACK_PER_S: Final = 60
"""libwebrtc sends 20 at the most, several in one go after a burst."""
FEEDBACK_BURST: Final = 60
RTT_START_US: Final = 100_000
RTT_MAX_US: Final = 10_000_000


class LineEstimator:
    """Estimate of one leg."""

    __slots__ = (
        "_credit",
        "_credit_us",
        "_delay",
        "_fed_us",
        "_last_lost",
        "_loss",
        "_max_bps",
        "_min_bps",
        "_others",
        "_rate",
        "_remb_bps",
        "_remb_us",
        "_sent_at_feedback",
        "_spell",
        "account",
        "arrived",
        "ignored",
        "probes",
        "round_trip_us",
        "sent",
    )

    def __init__(self, *, start_bps: int = START_BPS, min_bps: int = MIN_BPS, max_bps: int = MAX_BPS) -> None:
        self.sent = SentPackets()
        self.probes = ProbePlanner()
        self.arrived = ArrivedRate()
        self.round_trip_us = RTT_START_US
        self.ignored = 0
        """Feedback beyond the budget."""
        self.account: Account | None = None
        """Where calm feedback is taken in by somebody else; None: nobody does."""
        self._min_bps = min_bps
        self._max_bps = max_bps
        self._delay = DelayDetector()
        self._others = OthersQueue()
        self._rate = DelayRate(start_bps, min_bps, max_bps)
        self._loss = LossBound(min_bps, max_bps)
        self._remb_bps = 0
        self._remb_us = 0
        self._fed_us: int | None = None
        self._sent_at_feedback = self.sent.next_number
        self._last_lost = 0
        self._spell = Spell()
        self._credit = float(FEEDBACK_BURST)
        self._credit_us = 0

    @property
    def estimate_bps(self) -> int:
        """What may be sent to this viewer in all, retransmissions included."""
        if self._fed_us is None and self._remb_bps:
            allowed = min(float(self._remb_bps), self._loss.bound_bps)
        else:
            allowed = min(self._rate.bps, self._loss.bound_bps)
            if self._remb_bps:
                allowed = min(allowed, self._remb_bps)
        return int(min(self._max_bps, max(self._min_bps, allowed)))

    @property
    def queue_us(self) -> int:
        """Delay above that of the empty line."""
        return self._delay.queue_us

    @property
    def lost(self) -> float:
        """Share of packets lost in the last second or so, 0 to 1."""
        return self._loss.fraction

    @property
    def usage(self) -> Usage:
        """What the delay says."""
        return self._delay.usage

    @property
    def calm(self) -> bool:
        """A probe would measure the line and not the trouble on it."""
        return (
            self._fed_us is not None
            and self._delay.usage is Usage.NORMAL
            and self._delay.queue_us < CALM_QUEUE_US
            and self._loss.fraction < HIGH_LOSS
        )

    @property
    def silent_us(self) -> int:
        """When the viewer will have been silent for too long, if nothing comes."""
        return (1 << 62) if self._fed_us is None else self._fed_us + SILENCE_US

    def hear(self, fci: bytes, now_us: int) -> bool:
        """Body of a transport-wide feedback; false when it changes no decision.

        Raises:
            MalformedRtcp: nothing was changed.
        """
        self.settle()
        whole = read_whole(fci)
        if whole is None or not self._pass_over(whole, now_us):
            return self.on_feedback(read_feedback(fci), now_us)
        self.lend(now_us)
        return False

    def lend(self, now_us: int) -> None:
        """Where the line is calm, let others take in what else is calm until `settle`."""
        account, room = self.account, int(self._credit) - 1  # it only grows with time
        if account is None or room < 1 or not (self._spell.began and self._is_quiet):
            return
        delay = self._delay
        standing = Standing(*self.sent.told, self._spell.group_us, delay.queue_us, *delay.standing)
        account.lend(standing, room, now_us)

    def settle(self) -> None:
        """Take back what was lent and book what was taken in: whatever depends on it comes after this."""
        account = self.account
        if account is None or not account.lent:
            return
        standing, count = account.take_back()
        if not count:
            return
        told_to, reference, group_us, *delay = standing
        rows = list(account.rows(count))
        self.sent.went_on(told_to, reference)
        self._spell.went_on(group_us, rows)
        self._delay.went_on(*delay)
        for row, _ in rows:
            self._affords(row.now_us)
            self._sent_at_feedback = row.next_number
            self._calm(row.packets, row.size_bytes, row.newest_us, row.latest_us, row.now_us)

    def on_feedback(self, feedback: ReceivedFeedback, now_us: int) -> bool:
        """Transport-wide feedback came; false when it was beyond the budget and not looked at."""
        self.settle()
        if not self._affords(now_us):
            return False
        self._spell.make_up(self.sent, self._delay)
        matched = self.sent.match(feedback)
        self._fed_us = now_us
        self._sent_at_feedback = self.sent.next_number
        if matched.sends or matched.lost:
            self._take(matched, now_us)
        return True

    def _affords(self, now_us: int) -> bool:
        """Pay for one feedback out of the budget."""
        credit = self._credit + (now_us - self._credit_us) * FEEDBACK_PER_S / 1e6
        self._credit_us = now_us
        self._credit = min(float(FEEDBACK_BURST), credit) - 1
        if self._credit >= 0:
            return True
        self._credit += 1
        self.ignored += 1
        return False

    def _pass_over(self, feedback: WholeFeedback, now_us: int) -> bool:
        """Take in a feedback that says nothing new; false, and nothing changed, when it is another.

        Whatever is not the trend of the delay gets here what it gets in `_take`.
        """
        delay, sent = self._delay, self.sent
        if self._credit < 2 or not self._is_quiet:
            return False
        count = feedback.statuses
        start = sent.follows(feedback.base_seq, count)
        if start < 0:
            return False
        latest_us = self._spell.takes(feedback, start, sent, delay)
        if not latest_us:
            return False
        self._affords(now_us)
        self._sent_at_feedback = sent.next[0]
        newest_us, size_bytes = sent.arrived(count)
        self._calm(count, size_bytes, newest_us, latest_us, now_us)
        return True

    @property
    def _is_quiet(self) -> bool:
        """Calm feedback would change no decision; no calm feedback ends that."""
        return self._delay.usage is Usage.NORMAL and not self.probes.is_open and self._loss.calm

    def _calm(self, count: int, size_bytes: int, newest_us: int, latest_us: int, now_us: int) -> None:
        """What a calm feedback changes beside the trend of the delay."""
        self._fed_us = now_us
        sample = min(RTT_MAX_US, max(1, now_us - newest_us))
        self.round_trip_us += (sample - self.round_trip_us) >> 3
        self._loss.add(0, count, 0, now_us)
        self.arrived.add(latest_us, size_bytes)
        self._rate.update(Usage.NORMAL, self.arrived, self._delay.queue_us, self.round_trip_us, now_us)

    def _take(self, matched: Matched, now_us: int) -> None:
        before = self.estimate_bps
        if matched.sends:
            sample = min(RTT_MAX_US, max(1, now_us - matched.sends[-1]))
            self.round_trip_us += (sample - self.round_trip_us) >> 3
            size_bytes = matched.size_bytes
            if size_bytes:
                self.arrived.add(max(matched.arrives), size_bytes)
        lost = self.sent.lost - self._last_lost
        self._last_lost = self.sent.lost
        lowered = self._loss.add(lost, len(matched.sends), self._rate.bps, now_us)
        usage = self._delay.update(matched.sends, matched.arrives)
        back_bps = self._others.look(self._delay.queue_us, self.arrived.bps or 0, now_us)
        if back_bps:
            self._rate.reached(back_bps)
            self._loss.reached(back_bps)
        if not self._others.foreign:
            lowered |= self._rate.update(usage, self.arrived, self._delay.queue_us, self.round_trip_us, now_us)
        if self.probes.is_open:
            self._measure(matched, usage, now_us)
        if lowered:
            self.probes.dropped(before, self.estimate_bps, now_us)

    def _measure(self, matched: Matched, usage: Usage, now_us: int) -> None:
        """A probe is on its way: perhaps this is what it has shown."""
        shown_bps = self.probes.on_told(matched.told(), now_us)
        if shown_bps is not None and usage is not Usage.OVER:
            self._rate.reached(shown_bps)
            if self._loss.fraction < HIGH_LOSS:
                self._loss.reached(shown_bps)

    def on_remb(self, bitrate_bps: int, now_us: int) -> None:
        """The viewer's own estimate came."""
        self.settle()
        self._remb_bps = max(self._min_bps, bitrate_bps)
        self._remb_us = now_us

    def on_report(self, fraction_lost: float, round_trip_us: int | None) -> None:
        """A receiver report came; its loss counts only while there is no transport-wide feedback.

        Args:
            fraction_lost: of the viewer's streams together since its last report, 0 to 1.
        """
        if round_trip_us is not None and self._fed_us is None:
            self.round_trip_us += (min(RTT_MAX_US, round_trip_us) - self.round_trip_us) >> 3
        if self._fed_us is None:
            self._loss.period(fraction_lost, self.estimate_bps)

    def tick(self, now_us: int) -> None:
        """Call every 100 ms: notices what does not come."""
        if self._remb_bps and now_us - self._remb_us > REMB_VALID_US:
            self._remb_bps = 0
        if self._fed_us is None or now_us - self._fed_us < SILENCE_US:
            return
        self.settle()
        if now_us - self._fed_us < SILENCE_US:
            return
        if self.sent.next_number == self._sent_at_feedback:
            self._fed_us = now_us  # nothing was sent that could be told of
            self._delay.rest()
            self._loss.fraction = 0.0
            return
        before = self.estimate_bps
        self._rate.lower_to(self.estimate_bps / 2)
        self._fed_us = now_us
        self._sent_at_feedback = self.sent.next_number
        self.probes.dropped(before, self.estimate_bps, now_us)

    def plan_probe(self, need_bps: int, ceiling_bps: int, now_us: int) -> Probe | None:
        """Padding to send now; see `ProbePlanner.plan`."""
        self.settle()
        need_bps, ceiling_bps = min(need_bps, self._max_bps), min(ceiling_bps, self._max_bps)
        return self.probes.plan(self.estimate_bps, need_bps, ceiling_bps, calm=self.calm, now_us=now_us)
