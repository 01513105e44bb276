/* What the server says of what is sent: feedback, NACK, wishes for a key frame, REMB, sender reports.
 *
 * Strict as media/core/rtcp.py is (RFC 3550 sections 6.4 to 6.6 and A.2, RFC 4585 section 6, RFC 5104, RFC 3611): a whole
 * compound is looked at first, and when any packet of it contradicts itself, transport-wide feedback included
 * (media/core/twcc.py), it is counted and nothing of it is believed. Types and formats that are not known are passed over.
 * What was told waits in sums until the caller asks. */
#include "inside.h"

/* Symbols of transport-wide feedback by number, and where its deltas begin; -1 when it contradicts itself. */
static int read_wide(const unsigned char *fci, int bytes, uint8_t *symbols, int *deltas)
{
    int left, chunks = 8, many = 0, position;
    if (bytes < 8)
        return -1;
    left = (int)get16(fci + 2);
    while (many < left) {
        uint32_t word;
        if (chunks + 2 > bytes)
            return -1;
        word = get16(fci + chunks);
        chunks += 2;
        if (!(word & 0x8000)) {
            int times = (int)(word & 0x1FFF);
            if (!times)
                return -1;
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
            return -1;
        position += symbols[i]; /* a symbol is the bytes of its delta */
    }
    *deltas = chunks;
    return position > bytes ? -1 : many;
}

/* 24 bits of 64 ms wrap after 12 days, which may be now. */
static int64_t unwrapped(gen_peer *peer, uint32_t reference)
{
    if (peer->reference < 0) {
        peer->reference = (int64_t)reference + 0x1000000;
    } else {
        uint32_t step = (reference - (uint32_t)peer->reference) & 0xFFFFFF;
        peer->reference += step < 0x800000 ? (int64_t)step : (int64_t)step - 0x1000000;
        if (peer->reference < 0)
            peer->reference += 0x1000000;
    }
    return peer->reference * 64000;
}

/* Transport-wide feedback: what arrived and how delayed. */
static void take_wide(gen_peer *peer, const unsigned char *fci, int bytes)
{
    uint8_t symbols[0x10000];
    int position, many = read_wide(fci, bytes, symbols, &position);
    uint16_t number;
    int64_t time_us;
    if (many < 0)
        return; /* was looked at before */
    number = (uint16_t)get16(fci);
    time_us = unwrapped(peer, get32(fci + 4) >> 8);
    for (int i = 0; i < many; i++, number++) {
        int slot_at = number % REMEMBERED;
        if (!symbols[i])
            continue;
        time_us += 250 * (symbols[i] == 1 ? (int64_t)fci[position] : (int64_t)(int16_t)get16(fci + position));
        position += symbols[i];
        peer->heard.arrived++;
        /* Of what was never sent, or so long ago that its place is taken, nothing is known. */
        if (peer->sent_us[slot_at] && (uint16_t)(peer->wide - number) < REMEMBERED) {
            double delay_us = (double)(time_us - peer->sent_us[slot_at]);
            if (!peer->heard.delay_count || delay_us < peer->heard.delay_least_us)
                peer->heard.delay_least_us = delay_us;
            peer->heard.delay_count++;
            peer->heard.delay_sum_us += delay_us;
            peer->heard.arrived_bytes += peer->sent_bytes[slot_at];
        }
    }
    peer->heard.told += many;
}

static void want_key(gen_peer *peer, uint32_t ssrc)
{
    for (int i = 0; i < peer->layer_count; i++)
        if (peer->layers[i].is.ssrc == ssrc)
            peer->layers[i].key_wanted = 1;
}

static void take_nack(gen_state *state, gen_peer *peer, const unsigned char *body, int bytes, double now_s)
{
    uint32_t ssrc = get32(body + 4);
    for (int i = 0; i < peer->layer_count; i++) {
        stream *way = peer->layers + i;
        if (way->is.ssrc != ssrc)
            continue;
        for (int p = 8; p < bytes; p += 4) {
            uint16_t first = (uint16_t)get16(body + p);
            repair(state, peer, way, first, now_s);
            for (int bit = 0; bit < 16; bit++)
                if (get16(body + p + 2) >> bit & 1)
                    repair(state, peer, way, (uint16_t)(first + 1 + bit), now_s);
        }
    }
}

static void take_sender_report(gen_peer *peer, const unsigned char *body, double now_s)
{
    uint32_t ssrc = get32(body);
    for (int i = 0; i < peer->track_count; i++)
        if (peer->tracks[i]->ssrc == ssrc) {
            peer->tracks[i]->lsr = get32(body + 6);
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

static int is_remb(int format, const unsigned char *body, int bytes)
{
    return format == 15 && bytes >= 12 && memcmp(body + 8, "REMB", 4) == 0;
}

/* Bytes behind a packet's header without its padding, which only the last packet of a compound may have; -1 when it
 * contradicts itself. The padding need not be of whole words: libwebrtc fills up feedback with one to three bytes. */
static int body_bytes(const unsigned char *at, int length, int last)
{
    int bytes = length - 4, padding;
    if (!(at[0] & 0x20))
        return bytes;
    if (!last || !bytes)
        return -1;
    padding = at[length - 1];
    return padding && padding <= bytes ? bytes - padding : -1;
}

static int sound_sdes(const unsigned char *body, int bytes, int chunks)
{
    int at = 0;
    for (; chunks; chunks--) {
        if (at + 5 > bytes)
            return 0;
        for (at += 4; at < bytes && body[at];) {
            if (at + 2 > bytes)
                return 0;
            at += 2 + body[at + 1];
        }
        if (at >= bytes)
            return 0; /* no null octet ends it */
        at += 4 - at % 4;
        if (at > bytes)
            return 0;
    }
    return 1;
}

static int sound_extended(const unsigned char *body, int bytes)
{
    int at = 4;
    if (bytes < 4)
        return 0;
    while (at < bytes) {
        int words;
        if (at + 4 > bytes)
            return 0;
        words = (int)get16(body + at + 2);
        if ((body[at] == 4 && words != 2) || (body[at] == 5 && words % 3))
            return 0;
        at += 4 + 4 * words;
    }
    return at == bytes;
}

static int sound_feedback(const gen_peer *peer, int type, int format, const unsigned char *body, int bytes)
{
    uint8_t symbols[0x10000];
    int fci = bytes - 8, deltas;
    if (fci < 0)
        return 0;
    if (type == 205 && format == 1)
        return fci && fci % 4 == 0;
    if (type == 205 && format == 15 && peer->speaking)
        return read_wide(body + 8, fci, symbols, &deltas) >= 0;
    if (type == 206 && format == 4)
        return fci && fci % 8 == 0;
    if (type == 206 && is_remb(format, body, bytes))
        return fci >= 8 && fci >= 8 + 4 * (int)body[12];
    return 1;
}

/* What a packet says of its own size holds. */
static int sound(const gen_peer *peer, const unsigned char *at, const unsigned char *body, int bytes)
{
    int many = at[0] & 31;
    switch (at[1]) {
    case 200:
        return bytes >= 24 + 24 * many;
    case 201:
        return bytes >= 4 + 24 * many;
    case 202:
        return sound_sdes(body, bytes, many);
    case 203:
        return bytes >= 4 * many;
    case 205:
    case 206:
        return sound_feedback(peer, at[1], many, body, bytes);
    case 207:
        return sound_extended(body, bytes);
    default:
        return 1;
    }
}

static int sound_compound(const gen_peer *peer, const unsigned char *packet, int bytes)
{
    int at = 0;
    while (at < bytes) {
        int length, inside;
        if (at + 4 > bytes || packet[at] >> 6 != 2)
            return 0;
        length = 4 + 4 * (int)get16(packet + at + 2);
        if (at + length > bytes)
            return 0;
        inside = body_bytes(packet + at, length, at + length == bytes);
        if (inside < 0 || !sound(peer, packet + at, packet + at + 4, inside))
            return 0;
        at += length;
    }
    return bytes > 0;
}

/* One packet of a compound that is sound. */
static void take_control(gen_state *state, gen_peer *peer, const unsigned char *at, const unsigned char *body, int bytes,
                         double now_s)
{
    int format = at[0] & 31;
    if (at[1] == 200) {
        take_sender_report(peer, body, now_s);
    } else if (at[1] == 205) {
        if (format == 1)
            take_nack(state, peer, body, bytes, now_s);
        else if (format == 15 && peer->speaking)
            take_wide(peer, body + 8, bytes - 8);
    } else if (at[1] == 206) {
        if (format == 1 || format == 4)
            count(state, GEN_PLI_IN, 1);
        if (format == 1)
            want_key(peer, get32(body + 4));
        for (int p = 8; format == 4 && p < bytes; p += 8)
            want_key(peer, get32(body + p));
        if (is_remb(format, body, bytes))
            peer->heard.remb_bps = remb_bps(get32(body + 12));
    }
}

static void take_rtcp(gen_state *state, gen_peer *peer, const unsigned char *data, int bytes, double now_s)
{
    _Alignas(8) unsigned char packet[2048]; /* libsrtp looks at words */
    int good = bytes <= 1600;
    if (good) {
        memcpy(packet, data, (size_t)bytes);
        good = peer->receive && state->unprotect_rtcp(peer->receive, packet, &bytes) == 0;
    }
    if (!good || !sound_compound(peer, packet, bytes)) {
        count(state, GEN_RTCP_UNREADABLE, 1);
        return;
    }
    for (int at = 0, length; at < bytes; at += length) {
        length = 4 + 4 * (int)get16(packet + at + 2);
        take_control(state, peer, packet + at, packet + at + 4,
                     body_bytes(packet + at, length, at + length == bytes), now_s);
    }
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
