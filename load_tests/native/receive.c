/* What a viewer makes of the media that comes: counts, gaps, pictures, freezes, latency.
 *
 * The same steps as load_tests/session/receiving.py. Most packets are never decrypted: the first ones of a track, one in
 * SAMPLE_EVERY, repairs, and all while a picture cannot be decoded, since a key frame may be among them. A picture is
 * there when nothing from the key frame to its last packet is missing; what is given up ends that until the next key
 * frame. Everything of a datagram is the server's word until libsrtp has checked it, and is measured against the
 * datagram's length also afterwards. What is answered is in rtcp_out.c. */
#include "inside.h"

static void add(gen_state *state, int what, double value)
{
    gen_histogram *histogram = state->figures.histograms + what;
    uint64_t units;
    int shift;
    if (value < 0)
        value = 0;
    units = value * 1000 < 1099511627775.0 ? (uint64_t)llrint(value * 1000) : 1099511627775ULL;
    shift = units > 255 ? 56 - __builtin_clzll(units) : 0;
    histogram->buckets[((uint64_t)shift << 7) + (units >> shift)]++;
    if (!histogram->count++ || value < histogram->lowest)
        histogram->lowest = value;
    if (value > histogram->highest)
        histogram->highest = value;
    histogram->total += value;
}

static int payload_at(const unsigned char *packet, int bytes)
{
    int at = 12 + 4 * (packet[0] & 15);
    if (packet[0] & 0x10 && at + 4 <= bytes)
        at += 4 + 4 * (int)get16(packet + at + 2);
    return at;
}

static void hole(gen_state *state, gen_peer *peer, gen_track *track, int ahead, double now_s)
{
    int64_t numbers[MAX_MISSING];
    if (track->missing_count + ahead > MAX_MISSING) {
        count(state, GEN_RTP_LOST, ahead - 1);
        break_off(state, peer, track, track->highest + ahead, now_s);
        return;
    }
    for (int i = 0; i < ahead - 1; i++) {
        numbers[i] = track->highest + 1 + i;
        track->missing[track->missing_count++] = (gen_missing){numbers[i], now_s, now_s};
    }
    if (track->video) {
        track->to_sample = 1;
        send_nack(state, peer, track, numbers, ahead - 1, now_s);
    }
}

/* It is no longer missed; what is behind it moves up, so that numbers stay ascending. When it was missed; 0: never. */
static double found(gen_track *track, int64_t number)
{
    for (int i = 0; i < track->missing_count; i++)
        if (track->missing[i].number == number) {
            double missed_s = track->missing[i].missed_s;
            memmove(track->missing + i, track->missing + i + 1,
                    sizeof track->missing[0] * (size_t)(--track->missing_count - i));
            return missed_s;
        }
    return 0;
}

/* For how long a browser holds pictures back: from the third repair within a minute on, as long as repairs take
 * (libwebrtc's jitter estimator adds the round trip). */
static double held_s(const gen_track *track, double now_s)
{
    double held = track->wait_s + 2 * track->wait_off_s;
    if (track->waits < WAITS || now_s - track->waited_s > WAITS_S)
        return 0;
    return held < MOST_HELD_S ? held : MOST_HELD_S;
}

static void waited(gen_track *track, double wait_s, double now_s)
{
    if (now_s - track->waited_s > WAITS_S)
        track->waits = 0;
    if (!track->waits++) {
        track->wait_s = wait_s;
        track->wait_off_s = wait_s / 2;
    } else {
        track->wait_off_s += (fabs(wait_s - track->wait_s) - track->wait_off_s) / 4;
        track->wait_s += (wait_s - track->wait_s) / 8;
    }
    track->waited_s = now_s;
}

/* A picture is whole; a screen shows it as soon as it does. */
static void picture(gen_state *state, gen_peer *peer, gen_track *track, double at_s, double now_s)
{
    count(state, GEN_FRAMES_IN, 1);
    if (track->picture_s <= 0) {
        track->picture_s = now_s;
        hand_over(state, peer, GEN_CHANGED, NULL, 0, 0);
    }
    if (track->shown_s > 0) {
        double gap_s = (at_s > track->shown_s ? at_s : track->shown_s) - track->shown_s, usual_s = track->frame_gap_s;
        double limit_s = 3 * usual_s > usual_s + FREEZE_LEAST_S ? 3 * usual_s : usual_s + FREEZE_LEAST_S;
        if (gap_s > limit_s) { /* WebRTC's definition of a freeze (webrtc-stats, freezeCount) */
            count(state, GEN_FREEZES, 1);
            add(state, GEN_FREEZE, gap_s * 1000);
        } else {
            track->frame_gap_s += (gap_s - usual_s) / 30;
        }
    }
    track->shown_s = at_s > track->shown_s ? at_s : track->shown_s;
    track->last_frame_s = now_s;
}

/* Those of the pictures that wait which nothing is missing for any more. */
static void show(gen_state *state, gen_peer *peer, gen_track *track, double now_s)
{
    int64_t first = INT64_MAX;
    double hold_s;
    int shown = 0;
    if (!track->key_seen)
        return;
    for (int i = 0; i < track->missing_count && first == INT64_MAX; i++)
        if (track->missing[i].number >= track->key_number)
            first = track->missing[i].number;
    if (!track->end_count || track->ends[0] >= first)
        return;
    if (track->end_s[0] < now_s)
        waited(track, now_s - track->end_s[0], now_s);
    hold_s = held_s(track, now_s);
    for (; shown < track->end_count && track->ends[shown] < first; shown++) {
        double due_s = track->end_s[shown] + hold_s;
        if (track->ends[shown] >= track->key_number)
            picture(state, peer, track, due_s > now_s ? due_s : now_s, now_s);
    }
    track->end_count -= shown;
    memmove(track->ends, track->ends + shown, sizeof track->ends[0] * (size_t)track->end_count);
    memmove(track->end_s, track->end_s + shown, sizeof track->end_s[0] * (size_t)track->end_count);
}

/* The last packet of a picture came. */
static void picture_ended(gen_state *state, gen_peer *peer, gen_track *track, int64_t number, double came_s,
                          double now_s)
{
    int at;
    if (track->end_count == MOST_ENDS) {
        track->end_count--;
        memmove(track->ends, track->ends + 1, sizeof track->ends[0] * (size_t)track->end_count);
        memmove(track->end_s, track->end_s + 1, sizeof track->end_s[0] * (size_t)track->end_count);
    }
    for (at = track->end_count++; at && track->ends[at - 1] > number; at--) {
        track->ends[at] = track->ends[at - 1];
        track->end_s[at] = track->end_s[at - 1];
    }
    track->ends[at] = number;
    track->end_s[at] = came_s;
    show(state, peer, track, now_s);
}

/* media.core.codecs.vp8_starts_key_frame */
static int starts_key_frame(const unsigned char *data, int bytes)
{
    int at = 1;
    if (bytes < 2 || (data[0] & 0x17) != 0x10)
        return 0;
    if (data[0] & 0x80) {
        int flags = data[at++];
        if (flags & 0x80) {
            if (at >= bytes)
                return 0;
            at += data[at] & 0x80 ? 2 : 1;
        }
        at += (flags & 0x40) != 0;
        at += (flags & 0x30) != 0;
    }
    return at < bytes && !(data[at] & 1);
}

/* Decrypt a copy; its bytes, 0 when it is not readable. */
static int opened(gen_state *state, gen_peer *peer, const unsigned char *data, int bytes)
{
    memcpy(state->scratch, data, (size_t)bytes);
    if (!peer->receive || state->unprotect(peer->receive, state->scratch, &bytes) != 0 || bytes < 12) {
        count(state, GEN_RTP_UNREADABLE, 1);
        return 0;
    }
    return bytes;
}

/* A packet that was decrypted: may pictures be decoded from here on? */
static void look_for_key(gen_track *track, int64_t number, const unsigned char *payload, int bytes)
{
    if (track->video == GEN_VP8 && number >= track->key_number && starts_key_frame(payload, bytes)) {
        track->key_seen = 1;
        track->key_number = number;
    }
}

static void sample(gen_state *state, gen_peer *peer, gen_track *track, int64_t number, const unsigned char *data,
                   int bytes, int64_t stamp_ns)
{
    const unsigned char *packet = state->scratch, *trailer;
    int at;
    bytes = opened(state, peer, data, bytes);
    if (!bytes)
        return;
    at = payload_at(packet, bytes);
    if (at < bytes)
        look_for_key(track, number, packet + at, bytes - at);
    if (track->video && (!track->key_seen || track->missing_count))
        track->to_sample = 1;
    if (bytes - at < TRAILER_BYTES)
        return;
    trailer = packet + bytes - TRAILER_BYTES;
    if (memcmp(trailer, MARK, sizeof MARK) != 0)
        return; /* of a real browser */
    if (get32(trailer + 4) != peer->consult)
        count(state, GEN_RTP_FOREIGN, 1);
    if (peer->timed) {
        int64_t sent_ns = (int64_t)((uint64_t)get32(trailer + 8) << 32 | get32(trailer + 12));
        if (sent_ns)
            add(state, GEN_FORWARD, (double)(stamp_ns - sent_ns) / 1e6);
    }
}

static void take_track(gen_state *state, gen_peer *peer, gen_track *track, const unsigned char *data, int bytes,
                       int64_t stamp_ns, double now_s)
{
    uint16_t seq = (uint16_t)get16(data + 2);
    int64_t number;
    double transit, came_s = now_s;
    track->packets++;
    count(state, GEN_RTP_IN, 1);
    count(state, GEN_RTP_IN_BYTES, bytes);
    if (track->highest < 0) {
        track->highest = track->base = seq;
        track->first_s = now_s;
        count(state, GEN_TRACKS_RECEIVED, 1);
        hand_over(state, peer, GEN_CHANGED, NULL, 0, 0);
    } else {
        int ahead = (uint16_t)(seq - (uint16_t)track->highest);
        if (ahead > 0 && ahead < 0x8000) {
            if (ahead > 1)
                hole(state, peer, track, ahead, now_s);
            track->highest += ahead;
        } else if (track->missing_count) {
            double missed_s = found(track, track->highest - (uint16_t)((uint16_t)track->highest - seq));
            came_s = missed_s > 0 ? missed_s : now_s;
        }
    }
    number = track->highest - (uint16_t)((uint16_t)track->highest - seq);
    transit = (double)stamp_ns / 1e9 * track->clock_hz - get32(data + 4);
    if (track->packets > 1) {
        double change = fabs(transit - track->transit);
        if (change > track->clock_hz) /* RTP time has 32 bits (RFC 3550 section 6.4.1) */
            change = fabs(remainder(change, 4294967296.0));
        track->jitter += ((change < track->clock_hz ? change : track->clock_hz) - track->jitter) / 16;
    }
    track->transit = transit;
    if (--track->to_sample <= 0) {
        track->to_sample = SAMPLE_EVERY;
        sample(state, peer, track, number, data, bytes, stamp_ns);
    }
    if (track->video && data[1] & 0x80)
        picture_ended(state, peer, track, number, came_s, now_s);
    else if (track->end_count)
        show(state, peer, track, now_s);
}

static void take_repair(gen_state *state, gen_peer *peer, gen_track *track, const unsigned char *data, int bytes,
                        double now_s)
{
    int64_t number;
    double missed_s;
    int at;
    count(state, GEN_RTX_IN, 1);
    bytes = opened(state, peer, data, bytes);
    if (!bytes || track->highest < 0)
        return;
    at = payload_at(state->scratch, bytes);
    if (at + 2 > bytes)
        return;
    number = track->highest - (uint16_t)((uint16_t)track->highest - get16(state->scratch + at));
    missed_s = found(track, number);
    if (missed_s <= 0)
        return; /* padding that probes, or too late */
    look_for_key(track, number, state->scratch + at + 2, bytes - at - 2);
    if (state->scratch[1] & 0x80)
        picture_ended(state, peer, track, number, missed_s, now_s);
    else
        show(state, peer, track, now_s);
}

static void take_rtp(gen_state *state, gen_peer *peer, const unsigned char *data, int bytes, int64_t stamp_ns,
                     double now_s)
{
    uint32_t ssrc = get32(data + 8);
    if (!peer->listening)
        return;
    number_of(state, peer, data, bytes, stamp_ns);
    for (int i = 0; i < peer->track_count; i++) {
        gen_track *track = peer->tracks[i];
        if (track->ssrc == ssrc) {
            take_track(state, peer, track, data, bytes, stamp_ns, now_s);
            return;
        }
        if (track->rtx_ssrc == ssrc && ssrc) {
            take_repair(state, peer, track, data, bytes, now_s);
            return;
        }
    }
    if (ssrc == PROBATOR)
        return;
    for (int i = 0; i < FORGOTTEN && i < peer->forgotten_count; i++)
        if (peer->forgotten[i] == ssrc)
            return;
    count(state, GEN_RTP_STRANGE, 1);
}

gen_track *gen_track_new(gen_state *state, gen_peer *peer, uint32_t ssrc, uint32_t rtx_ssrc, int video, int clock_hz)
{
    gen_track *track = calloc(1, sizeof *track);
    if (!track)
        return NULL;
    track->ssrc = ssrc;
    track->rtx_ssrc = rtx_ssrc;
    track->video = video;
    track->clock_hz = clock_hz > 0 ? clock_hz : 1; /* the server's word: it is divided by */
    track->highest = track->base = -1;
    track->key_number = INT64_MIN;
    track->key_seen = video == GEN_VIDEO;
    track->frame_gap_s = 1.0 / 30;
    track->to_sample = 1;
    enter(state);
    if (peer->track_count == MAX_TRACKS) {
        leave_lock(state);
        free(track);
        return NULL;
    }
    peer->tracks[peer->track_count++] = track;
    leave_lock(state);
    return track;
}

void gen_track_forget(gen_state *state, gen_peer *peer, gen_track *track)
{
    enter(state);
    settle(state, peer, track, 0, 1);
    for (int i = 0; i < peer->track_count; i++)
        if (peer->tracks[i] == track) {
            memmove(peer->tracks + i, peer->tracks + i + 1, sizeof *peer->tracks * (size_t)(--peer->track_count - i));
            break;
        }
    peer->forgotten[peer->forgotten_count++ % FORGOTTEN] = track->ssrc;
    if (track->rtx_ssrc)
        peer->forgotten[peer->forgotten_count++ % FORGOTTEN] = track->rtx_ssrc;
    leave_lock(state);
    free(track);
}

/* It receives: feedback and reports from these moments on. */
void gen_listen(gen_state *state, gen_peer *peer, int timed, double feedback_s, double report_s)
{
    enter(state);
    if (!peer->arrivals)
        peer->arrivals = calloc(ARRIVALS, sizeof *peer->arrivals);
    peer->listening = peer->arrivals != NULL;
    peer->timed = timed;
    peer->feedback_s = feedback_s;
    peer->report_s = report_s;
    set_due(peer);
    leave_lock(state);
}
