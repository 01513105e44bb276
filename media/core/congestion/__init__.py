"""Congestion control towards viewers: what a line carries, and what to spend it on. No clock, no I/O.

=============  ====================================================================================
``line``       `ViewerLine`: one object per leg towards a viewer; the shell talks to this one
``sent``       what was sent under transport-wide numbers, matched against feedback
``quiet``      feedback that says nothing new, passed over
``delay``      does the queue grow? (draft-ietf-rmcat-gcc-02 section 5.1 to 5.4)
``rate``       estimate by delay (section 5.5), what arrives
``loss``       bound by loss (section 6)
``probe``      when to send padding to learn more, and what it showed
``estimator``  all of that together; REMB for viewers without transport-wide feedback
``allocator``  spends the estimate among a viewer's pictures
``pacer``      key frames in pieces
=============  ====================================================================================

Use, with ``now_us`` from the caller's steady clock::

    line = ViewerLine(now_us)

    # A burst was sent to this leg; sizes is one list for all its viewers, never changed afterwards.
    line.sent.note(line.sent.next_number & 0xFFFF, sizes, now_us)

    # A burst of a lane wants to leave (once per burst, not per viewer, is enough for the first test):
    if burst_bytes <= FREE_BURST_BYTES and not line.pacer.waiting:
        line.pacer.spend(burst_bytes)                # send it all, now
    elif line.pacer.passes(burst_bytes, now_us):
        ...                                          # send it all, now
    else:                                            # packets of this leg wait as (lane, number)
        for owner in line.pacer.offer((lane, number), size, consumer.id, key=key):
            ...                                      # restart that Consumer at its next key frame
    # at line.pacer.due_us(now_us): send what line.pacer.release(now_us) gives, then ask for due_us again
    # when a Consumer stops or changes lanes: line.pacer.drop(consumer.id)
    # sound: send at once, line.pacer.spend(size)

    # RTCP from the viewer. True: an estimate below what is being sent, or more comes than was allotted; decide at once.
    urgent = line.on_feedback(transport_feedback.fci, now_us)      # raises MalformedRtcp
    urgent = line.on_remb(remb.bitrate_bps, now_us)
    urgent = line.on_report(fraction_lost, round_trip_us)

    # At line.tick_us(now_us), and at once when a view or the set of Consumers changed:
    if line.tick(now_us) or urgent or changed:
        demands = [Demand(consumer.id, offers(producer, now_us), producer.spatial_layers, producer.content,
                          consumer.view) for ...]
        plan = line.decide(demands, reserved_bps, now_us)
        for consumer_id, (target, limited_by) in plan.allocation.grants.items():
            ...                                      # consumer.allowed = target; steer
        if plan.probe is not None:
            ...  # send plan.probe.size_bytes of padding in pieces every 5 ms at plan.probe.rate_bps, each noted with
                 # line.sent.note(first, sizes, now_us, plan.probe.cluster)

    # LineQuality: line.estimator.estimate_bps, .round_trip_us, .lost
"""
