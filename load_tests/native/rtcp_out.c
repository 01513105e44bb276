/* What is said to the server: transport-wide feedback, NACK and PLI for what is missing, reports of both kinds.
 *
 * Layouts: RFC 3550 (reports, SDES), RFC 4585 (NACK, PLI), draft-holmer-rmcat-transport-wide-cc-extensions-01. The twins
 * are load_tests/rig/feedback_runs.py and the builders of media/core/rtcp.py; every packet is below the size of a slot by the
 * bounds that are named where it is built. */
#include "inside.h"

static int put_head(unsigned char *at, int format, int type, uint32_t own, uint32_t media)
{
    at[0] = (unsigned char)(0x80 | format);
    at[1] = (unsigned char)type;
    put32(at + 4, own);
    put32(at + 8, media);
    return 12;
}

static int put_sdes(unsigned char *at, uint32_t ssrc)
{
    at[0] = 0x81;
    at[1] = 202;
    put16(at + 2, 3);
    put32(at + 4, ssrc);
    memcpy(at + 8, "\x01\x04load\0", 8);
    return 16;
}

static void number_of(gen_state *state, gen_peer *peer, const unsigned char *data, int bytes, int64_t stamp_ns)
{
    int block = 12 + 4 * (data[0] & 15), at = 0, stop, known = -1;
    uint32_t layout;
    if (!(data[0] & 0x10) || block + 4 > bytes)
        return;
    layout = (uint32_t)(data[1] & 0x7F) << 16 | get16(data + block + 2);
    stop = block + 4 + 4 * (int)get16(data + block + 2);
    for (int i = 0; i < peer->layout_count; i++)
        if (peer->layouts[i] == layout) {
            known = i;
            at = block + peer->layout_at[i];
        }
    if (!at || at + 2 > bytes || data[at - 1] != (WIDE_ID << 4 | 1)) {
        if (get16(data + block) != 0xBEDE || stop > bytes)
            return;
        at = 0;
        for (int p = block + 4; p < stop;) {
            int head = data[p], length = (head & 15) + 1;
            if (head == 0) {
                p++;
                continue;
            }
            if (head >> 4 == 15 || head >> 4 == 0)
                break;
            if (head >> 4 == WIDE_ID && length == 2 && p + 3 <= stop) {
                at = p + 1;
                break;
            }
            p += 1 + length;
        }
        if (!at)
            return;
        if (known < 0)
            known = peer->layout_count < 8 ? peer->layout_count++ : 0;
        peer->layouts[known] = layout;
        peer->layout_at[known] = (uint16_t)(at - block);
    }
    record(state, peer, (uint16_t)get16(data + at), stamp_ns);
}

static void chunk(unsigned char *body, int *at, int *symbol, int *many, int next, int times)
{
    if (!times)
        return;
    if (*many && *symbol == next && *many + times <= 0x1FFF) {
        *many += times;
        return;
    }
    if (*many) {
        put16(body + *at, (uint32_t)(*symbol << 13 | *many));
        *at += 2;
    }
    *symbol = next;
    *many = times;
}

/* One transport-wide feedback from an arrival on; the first that is not in it (load_tests.rig.feedback_runs). */
static int build_wide(gen_state *state, gen_peer *peer, int position, double now_s)
{
    const arrival *all = peer->arrivals;
    unsigned char *packet = slot(state, peer), deltas[2 * MAX_STATUSES];
    uint16_t start = all[position].seq, following = start;
    int64_t reference = all[position].stamp_ns / TICK_WIDE_NS / 256, last = reference * 256;
    int statuses = 0, delta_bytes = 0, symbol = 0, many = 0, bytes = 20;
    while (position < peer->arrival_count) {
        int hole = (uint16_t)(all[position].seq - following);
        int64_t delta = all[position].stamp_ns / TICK_WIDE_NS - last;
        if (statuses && (hole > MAX_HOLE || statuses + hole + 1 > MAX_STATUSES))
            break;
        if (delta < -0x8000 || delta > 0x7FFF || bytes + delta_bytes > 1300)
            break;
        chunk(packet, &bytes, &symbol, &many, 0, hole);
        if (delta >= 0 && delta <= 0xFF) {
            chunk(packet, &bytes, &symbol, &many, 1, 1);
            deltas[delta_bytes++] = (unsigned char)delta;
        } else {
            chunk(packet, &bytes, &symbol, &many, 2, 1);
            put16(deltas + delta_bytes, (uint32_t)delta & 0xFFFF);
            delta_bytes += 2;
        }
        last += delta;
        statuses += hole + 1;
        following = (uint16_t)(all[position].seq + 1);
        position++;
    }
    put16(packet + bytes, (uint32_t)(symbol << 13 | many));
    bytes += 2;
    put_head(packet, 15, 205, peer->own_ssrc, peer->track_count ? peer->tracks[0]->ssrc : 0);
    put16(packet + 12, start);
    put16(packet + 14, (uint32_t)statuses);
    put32(packet + 16, ((uint32_t)reference & 0xFFFFFF) << 8 | peer->feedback_count++);
    memcpy(packet + bytes, deltas, (size_t)delta_bytes);
    bytes += delta_bytes;
    while ((bytes - 12) & 3)
        packet[bytes++] = 0;
    put16(packet + 2, (uint32_t)bytes / 4 - 1);
    send_rtcp(state, peer, packet, bytes, now_s);
    return position;
}

static void tell_arrivals(gen_state *state, gen_peer *peer, double now_s)
{
    int position = 0;
    while (position < peer->arrival_count) {
        int next = build_wide(state, peer, position, now_s);
        position = next > position ? next : position + 1;
    }
    peer->arrival_count = 0;
}

static void record(gen_state *state, gen_peer *peer, uint16_t number, int64_t stamp_ns)
{
    if (peer->wide_next >= 0 && (uint16_t)(number - peer->wide_next) >= 0x8000)
        return; /* late ones stay reported as lost */
    if (peer->arrival_count == ARRIVALS)
        tell_arrivals(state, peer, monotonic_s());
    peer->arrivals[peer->arrival_count++] = (arrival){number, stamp_ns};
    peer->wide_next = (uint16_t)(number + 1);
}

static void send_pli(gen_state *state, gen_peer *peer, const gen_track *track, double now_s)
{
    unsigned char *packet = slot(state, peer);
    put_head(packet, 1, 206, peer->own_ssrc, track->ssrc);
    put16(packet + 2, 2);
    count(state, GEN_PLI_OUT, 1);
    send_rtcp(state, peer, packet, 12, now_s);
}

/* Ask for packets again: ascending extended numbers (media.core.rtcp.build_nack). */
static void send_nack(gen_state *state, gen_peer *peer, const gen_track *track, const int64_t *numbers, int many,
                      double now_s)
{
    unsigned char *packet = slot(state, peer);
    int bytes = put_head(packet, 1, 205, peer->own_ssrc, track->ssrc), asked = 0;
    while (asked < many && bytes < 1200) { /* the rest when it is settled the next time */
        int64_t first = numbers[asked++];
        uint32_t mask = 0;
        for (; asked < many && numbers[asked] - first <= 16; asked++)
            mask |= 1u << (numbers[asked] - first - 1);
        put16(packet + bytes, (uint32_t)first & 0xFFFF);
        put16(packet + bytes + 2, mask);
        bytes += 4;
    }
    count(state, GEN_NACK_OUT, asked);
    put16(packet + 2, (uint32_t)bytes / 4 - 1);
    send_rtcp(state, peer, packet, bytes, now_s);
}

/* Pictures cannot be decoded any more: only a key frame helps, of packets from this one on. */
static void break_off(gen_state *state, gen_peer *peer, gen_track *track, int64_t from, double now_s)
{
    if (!track->video)
        return;
    if (track->video == GEN_VP8) {
        track->key_number = from;
        track->key_seen = 0;
        track->to_sample = 1;
        track->end_count = 0;
    }
    if (now_s - track->pli_s > PLI_AGAIN_S) {
        track->pli_s = now_s;
        send_pli(state, peer, track, now_s);
    }
}

/* Ask again for what is missing; what does not come is lost, and pictures then need a key frame. Also where none came
 * with the first packets (libwebrtc waits 200 ms for it). */
static void settle(gen_state *state, gen_peer *peer, gen_track *track, double now_s, int ending)
{
    int64_t again[MAX_MISSING];
    int many = 0, left = 0;
    for (int i = 0; i < track->missing_count; i++) {
        gen_missing one = track->missing[i];
        if (ending || now_s - one.missed_s > GIVEN_UP_S) {
            count(state, GEN_RTP_LOST, 1);
            if (!ending && one.number >= track->key_number)
                break_off(state, peer, track, one.number + 1, now_s);
            continue;
        }
        if (track->video && now_s - one.asked_s > NACK_AGAIN_S) {
            one.asked_s = now_s;
            again[many++] = one.number;
        }
        track->missing[left++] = one;
    }
    track->missing_count = left;
    if (many)
        send_nack(state, peer, track, again, many, now_s);
    if (track->video == GEN_VP8 && !track->key_seen && !ending && track->packets && now_s - track->first_s > KEY_WAIT_S)
        break_off(state, peer, track, track->key_number, now_s);
}

/* Loss as RFC 3550 appendix A.3 has it: what was expected less what came, so repairs do not mend it. */
static int put_block(gen_state *state, gen_track *track, unsigned char *at, double now_s)
{
    int64_t expected = track->highest - track->base + 1, lost = expected - track->packets;
    int64_t since = expected - track->expected_told, lately = since - (track->packets - track->packets_told), share;
    add(state, GEN_JITTER, track->jitter / track->clock_hz * 1000);
    track->expected_told = expected;
    track->packets_told = track->packets;
    share = since > 0 && lately > 0 ? 256 * lately / since : 0;
    lost = lost > 0x7FFFFF ? 0x7FFFFF : lost < -0x800000 ? -0x800000 : lost;
    put32(at, track->ssrc);
    put32(at + 4, (uint32_t)(share > 255 ? 255 : share) << 24 | ((uint32_t)lost & 0xFFFFFF));
    put32(at + 8, (uint32_t)track->highest);
    put32(at + 12, (uint32_t)track->jitter);
    put32(at + 16, track->lsr);
    put32(at + 20, track->lsr ? (uint32_t)(int64_t)((now_s - track->report_s) * 65536) : 0);
    return 24;
}

/* Once a second: receiver reports, each with as many blocks as it can count, and each of them fits any path. */
static void report_received(gen_state *state, gen_peer *peer, double now_s)
{
    int position = 0;
    do {
        unsigned char *packet = slot(state, peer);
        int bytes = 8, blocks = 0;
        for (; position < peer->track_count && blocks < 31; position++)
            if (peer->tracks[position]->highest >= 0) {
                bytes += put_block(state, peer->tracks[position], packet + bytes, now_s);
                blocks++;
            }
        packet[0] = (unsigned char)(0x80 | blocks);
        packet[1] = 201;
        put16(packet + 2, (uint32_t)(1 + 6 * blocks));
        put32(packet + 4, peer->own_ssrc);
        bytes += put_sdes(packet + bytes, peer->own_ssrc);
        send_rtcp(state, peer, packet, bytes, now_s);
    } while (position < peer->track_count);
}

static int put_report(const gen_state *state, unsigned char *at, const stream *way, uint32_t timestamp)
{
    int64_t now_ns = wall_ns(state);
    if (!way->packets)
        return 0;
    at[0] = 0x80;
    at[1] = 200;
    put16(at + 2, 6);
    put32(at + 4, way->is.ssrc);
    put32(at + 8, (uint32_t)((uint64_t)(now_ns / 1000000000) + NTP_1970));
    put32(at + 12, (uint32_t)(((uint64_t)(now_ns % 1000000000) << 32) / 1000000000));
    put32(at + 16, timestamp);
    put32(at + 20, (uint32_t)way->packets);
    put32(at + 24, (uint32_t)way->octets);
    return 28;
}

static void report_sent(gen_state *state, gen_peer *peer, double now_s)
{
    unsigned char *packet = slot(state, peer);
    int bytes = 0;
    for (int i = 0; i < peer->layer_count; i++)
        if (peer->layers[i].is.bitrate_bps)
            bytes += put_report(state, packet + bytes, peer->layers + i,
                                camera_time(peer, now_s) + peer->layers[i].is.timestamp);
    if (peer->sound_s != INFINITY)
        bytes += put_report(state, packet + bytes, &peer->sound,
                            (uint32_t)(peer->spoken * 960) + peer->sound.is.timestamp);
    if (!bytes)
        return;
    bytes += put_sdes(packet + bytes, get32(packet + 4));
    send_rtcp(state, peer, packet, bytes, now_s);
}
