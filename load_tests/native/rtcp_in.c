/* What the server says of what is sent: feedback, NACK, wishes for a key frame, REMB, sender reports.
 *
 * The lengths of a compound are checked before any of it counts; feedback that contradicts itself (media/core/twcc.py)
 * changes nothing. What media/core/rtcp.py besides calls malformed is left out here without a word. What was told waits in a sum until the caller asks. */
#include "inside.h"

/* Transport-wide feedback: what arrived and how delayed; 0 when it contradicts itself (media.core.twcc.read_feedback). */
static int take_wide(gen_peer *peer, const unsigned char *fci, int bytes)
{
    int left, position, chunks = 8, arrived = 0;
    uint16_t number;
    int64_t time_us;
    uint8_t symbols[0x10000];
    int many = 0;
    if (bytes < 8)
        return 0;
    number = (uint16_t)get16(fci);
    left = (int)get16(fci + 2);
    time_us = (int64_t)(get32(fci + 4) >> 8) * 64000;
    while (many < left) {
        uint32_t word;
        if (chunks + 2 > bytes)
            return 0;
        word = get16(fci + chunks);
        chunks += 2;
        if (!(word & 0x8000)) {
            int times = (int)(word & 0x1FFF);
            if (!times)
                return 0;
            for (; times && many < left; times--)
                symbols[many++] = (uint8_t)(word >> 13 & 3);
        } else {
            int width = word & 0x4000 ? 2 : 1;
            for (int shift = 14 - width; shift >= 0 && many < left; shift -= width)
                symbols[many++] = (uint8_t)(word >> shift & (width == 2 ? 3 : 1));
        }
    }
    position = chunks;
    for (int i = 0; i < many; i++) {
        if (symbols[i] == 3)
            return 0;
        position += symbols[i];
    }
    if (position > bytes)
        return 0;
    position = chunks;
    for (int i = 0; i < many; i++, number++) {
        int slot_at = number % REMEMBERED;
        if (symbols[i] != 1 && symbols[i] != 2)
            continue;
        if (symbols[i] == 1) {
            time_us += 250 * (int64_t)fci[position++];
        } else {
            time_us += 250 * (int64_t)(int16_t)get16(fci + position);
            position += 2;
        }
        arrived++;
        if (peer->sent_us[slot_at]) {
            double delay_us = (double)(time_us - peer->sent_us[slot_at]);
            if (!peer->heard.delay_count || delay_us < peer->heard.delay_least_us)
                peer->heard.delay_least_us = delay_us;
            peer->heard.delay_count++;
            peer->heard.delay_sum_us += delay_us;
            peer->heard.arrived_bytes += peer->sent_bytes[slot_at];
        }
    }
    peer->heard.told += many;
    peer->heard.arrived += arrived;
    return 1;
}

static void want_key(gen_peer *peer, uint32_t ssrc)
{
    for (int i = 0; i < peer->layer_count; i++)
        if (peer->layers[i].is.ssrc == ssrc)
            peer->layers[i].key_wanted = 1;
}

static void take_nack(gen_state *state, gen_peer *peer, const unsigned char *at, int bytes, double now_s)
{
    uint32_t ssrc = get32(at + 8);
    for (int i = 0; i < peer->layer_count; i++) {
        stream *way = peer->layers + i;
        if (way->is.ssrc != ssrc)
            continue;
        for (int p = 12; p + 4 <= bytes; p += 4) {
            uint16_t first = (uint16_t)get16(at + p);
            repair(state, peer, way, first, now_s);
            for (int bit = 0; bit < 16; bit++)
                if (get16(at + p + 2) >> bit & 1)
                    repair(state, peer, way, (uint16_t)(first + 1 + bit), now_s);
        }
    }
}

static void take_sender_report(gen_peer *peer, const unsigned char *at, double now_s)
{
    uint32_t ssrc = get32(at + 4);
    for (int i = 0; i < peer->track_count; i++)
        if (peer->tracks[i]->ssrc == ssrc) {
            peer->tracks[i]->lsr = get32(at + 10);
            peer->tracks[i]->report_s = now_s;
        }
}

/* 18 bits of mantissa, 6 of exponent: what does not fit is as much as fits. */
static int64_t remb_bps(uint32_t word)
{
    int64_t mantissa = word & 0x3FFFF;
    int exponent = (int)(word >> 18 & 0x3F);
    return mantissa > INT64_MAX >> exponent ? INT64_MAX : mantissa << exponent;
}

/* One packet of a compound; 0 when it is too short for what it says it is. */
static int take_control(gen_state *state, gen_peer *peer, const unsigned char *at, int bytes, double now_s)
{
    int format = at[0] & 31;
    switch (at[1]) {
    case 200:
        if (bytes < 28)
            return 0;
        take_sender_report(peer, at, now_s);
        return 1;
    case 205:
        if (bytes < 12)
            return 0;
        if (format == 1)
            take_nack(state, peer, at, bytes, now_s);
        else if (format == 15 && peer->speaking)
            return take_wide(peer, at + 12, bytes - 12);
        return 1;
    case 206:
        if (bytes < 12)
            return 0;
        if (format == 1 || format == 4)
            count(state, GEN_PLI_IN, 1);
        if (format == 1)
            want_key(peer, get32(at + 8));
        for (int p = 12; format == 4 && p + 8 <= bytes; p += 8)
            want_key(peer, get32(at + p));
        if (format == 15 && bytes >= 20 && memcmp(at + 12, "REMB", 4) == 0)
            peer->heard.remb_bps = remb_bps(get32(at + 16));
        return 1;
    default:
        return 1;
    }
}

static void take_rtcp(gen_state *state, gen_peer *peer, const unsigned char *data, int bytes, double now_s)
{
    _Alignas(8) unsigned char packet[2048]; /* libsrtp looks at words */
    int good = bytes <= 1600, at = 0;
    if (good) {
        memcpy(packet, data, (size_t)bytes);
        good = peer->receive && state->unprotect_rtcp(peer->receive, packet, &bytes) == 0;
    }
    /* Its lengths, before any of it counts (media.core.rtcp.parse). */
    for (int p = 0; good && p < bytes;) {
        good = p + 4 <= bytes && packet[p] >> 6 == 2;
        if (good)
            p += 4 + 4 * (int)get16(packet + p + 2);
        good = good && p <= bytes;
    }
    while (good && at < bytes) {
        int length = 4 + 4 * (int)get16(packet + at + 2), inside = length;
        if (packet[at] & 0x20 && length > 4 && packet[at + length - 1] <= length - 4)
            inside -= packet[at + length - 1];
        good = take_control(state, peer, packet + at, inside, now_s);
        at += length;
    }
    if (!good)
        count(state, GEN_RTCP_UNREADABLE, 1);
}

/* What its sending was told of since the last call. */
void gen_hear(gen_state *state, gen_peer *peer, gen_heard *heard)
{
    int64_t remb_bps;
    enter(state);
    *heard = peer->heard;
    remb_bps = peer->heard.remb_bps;
    memset(&peer->heard, 0, sizeof peer->heard);
    peer->heard.remb_bps = remb_bps;
    leave_lock(state);
}
