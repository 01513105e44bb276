/* All media of a generator's sessions, in one thread of its own, without Python: datagrams in, counted and answered as a
 * browser answers; pictures and sound out, paced, numbered, encrypted; the emulated lines in between.
 *
 * The same steps as load_tests/session/receiving.py, sending.py and plan/line.py, which remain the description of what
 * is done here and its twin in tests. What is no media (checks, DTLS, data channels) is handed to the caller, who also
 * sends such datagrams through here, so that they share the session's line.
 *
 * The thread looks once a millisecond at everything: arrivals carry the kernel's time, so nothing is measured later than
 * it came, and many are taken in one system call. It holds one lock while it works and gives it away between two
 * Transports when somebody asks.
 *
 * libsrtp is not linked: the caller gives the addresses of what is in the process already. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "generator.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef SO_TIMESTAMPNS
#define SO_TIMESTAMPNS 35
#endif

#define TICK_NS 1000000
#define QUEUE_S 0.3           /* load_tests.plan.line */
#define STEP_S 1e-6
#define READS 8               /* runs in one system call */
#define READ_BYTES 65536
#define EVENTS 128
#define BATCH 64              /* datagrams in one system call */
#define SLOT_BYTES 1664
#define MAX_TRACKS 64
#define MAX_LAYERS 4
#define MAX_MISSING 512       /* load_tests.session.receiving, as the next */
#define SAMPLE_EVERY 16
#define NACK_AGAIN_S 0.1
#define GIVEN_UP_S 1.0
#define FREEZE_LEAST_S 0.15
#define PLI_AGAIN_S 1.0
#define FORGOTTEN 64
#define PROBATOR 1234
#define ARRIVALS 1024
#define WIDE_ID 5
#define TICK_WIDE_NS 250000
#define MAX_STATUSES 900      /* load_tests.feedback_runs, as the next */
#define MAX_HOLE 400
#define HISTORY 512           /* load_tests.session.sending, as the next */
#define PAYLOAD_BYTES 1100
#define KEY_FACTOR 6
#define PACER_S 0.005
#define PACER_FACTOR 2.5
#define AUDIO_S 0.02
#define AUDIO_BYTES 80
#define TRAILER_BYTES 16
#define REMEMBERED 4096
#define HANDED_BYTES (1 << 20)
#define PROBE_S 0.02
#define NTP_1970 2208988800ULL

static const unsigned char MARK[4] = {'C', 'L', 'D', '1'};

typedef struct parcel {
    struct parcel *next;
    gen_peer *peer;
    double at_s;
    int bytes;
    unsigned char data[];
} parcel;

typedef struct {
    double rate_bps;
    double free_s;
    double last_s;
    uint64_t dice;
    parcel *head;
    parcel *tail;
} direction;

struct gen_line {
    gen_line *next;
    double loss, delay_s, jitter_s;
    int cut;
    int perfect;
    direction up, down;
};

typedef struct {
    uint16_t seq;
    int64_t stamp_ns;
} arrival;

typedef struct {
    int32_t seq;              /* -1: nothing */
    uint32_t timestamp;
    uint32_t frame;
    int32_t bytes;            /* of the payload */
    int64_t stamp_ns;
    uint8_t first;
    uint8_t key;
} kept;

typedef struct {
    gen_layer is;
    int key_wanted;
    int64_t packets;
    int64_t octets;
    kept *history;            /* NULL: nothing is repaired */
} stream;

typedef struct {
    int layer;
    int bytes;                /* of the payload, its trailer included */
    uint32_t timestamp;
    uint32_t frame;
    uint8_t first;
    uint8_t key;
    uint8_t last;
} queued;

struct gen_peer {
    gen_line *line;
    int id;
    int fd;
    uint32_t consult;
    uint32_t own_ssrc;
    void *receive;
    void *send;
    double due_s;             /* least of those below */

    /* what it takes */
    int listening, timed;
    double feedback_s, report_s;
    gen_track *tracks[MAX_TRACKS];
    int track_count;
    uint32_t forgotten[FORGOTTEN];
    int forgotten_count;      /* ever */
    arrival *arrivals;
    int arrival_count;
    int wide_next;            /* -1: nothing came */
    uint8_t feedback_count;
    uint32_t layouts[8];      /* payload type and words of the extension block, where the number was the last time */
    uint16_t layout_at[8];
    int layout_count;

    /* what it sends */
    int speaking, sends_timed;
    double speak_s, picture_s, pace_s, sound_s;
    double began_s, phase_s;
    int payload_type, rtx_payload_type, audio_type, level_at;
    int layer_count;
    stream layers[MAX_LAYERS];
    stream sound;
    int64_t spoken;
    uint32_t frame;
    const float *sizes;
    int size_count, size_at;
    queued *queue;
    int queue_head, queue_count, queue_room;
    uint16_t wide;            /* newest transport-wide number */
    int64_t *sent_us;
    uint16_t *sent_bytes;
    gen_heard heard;
};

struct gen_state {
    gen_srtp protect, unprotect, protect_rtcp, unprotect_rtcp;
    pthread_mutex_t lock, turnstile;
    atomic_int asking, stopping;
    int epoll, bell;
    gen_peer **peers;
    int peer_count, peer_room;
    int closings;             /* Transports that were closed, ever */
    gen_line *lines;
    gen_figures figures;
    double probe_s;

    gen_peer *sender;         /* whose datagrams are in the slots */
    int slot_count;
    int slot_bytes[BATCH];
    unsigned char slots[BATCH][SLOT_BYTES];

    unsigned char handed[HANDED_BYTES];
    int handed_from, handed_to;
    int64_t wall_ns;          /* not 0: it stands there */
    unsigned char filler[2048];
    unsigned char scratch[SLOT_BYTES + 512];
    unsigned char reads[READS][READ_BYTES];
};

/* ---------------------------------------------------------------- small things */

static uint32_t get16(const unsigned char *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static uint32_t get32(const unsigned char *at)
{
    return get16(at) << 16 | get16(at + 2);
}

static void put16(unsigned char *at, uint32_t value)
{
    at[0] = (unsigned char)(value >> 8);
    at[1] = (unsigned char)value;
}

static void put32(unsigned char *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value);
}

static double monotonic_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int64_t wall_ns(const gen_state *state)
{
    struct timespec now;
    if (state->wall_ns)
        return state->wall_ns;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void count(gen_state *state, int what, int64_t times)
{
    state->figures.counts[what] += times;
}

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

/* load_tests.plan.line.Dice */
static double roll(uint64_t *dice)
{
    uint64_t z = *dice += 0x9E3779B97F4A7C15ULL;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}

static int payload_at(const unsigned char *packet, int bytes)
{
    int at = 12 + 4 * (packet[0] & 15);
    if (packet[0] & 0x10 && at + 4 <= bytes)
        at += 4 + 4 * (int)get16(packet + at + 2);
    return at;
}

/* ---------------------------------------------------------------- to the caller */

static void hand_over(gen_state *state, const gen_peer *peer, int kind, const unsigned char *data, int bytes,
                      int64_t stamp_ns)
{
    int32_t head[4] = {bytes, peer->id, kind, 0};
    int room = (int)sizeof head + 8 + ((bytes + 7) & ~7);
    uint64_t one = 1;
    if (state->handed_to + room > HANDED_BYTES && state->handed_from) {
        state->handed_to -= state->handed_from;
        memmove(state->handed, state->handed + state->handed_from, (size_t)state->handed_to);
        state->handed_from = 0;
    }
    if (state->handed_to + room > HANDED_BYTES) {
        count(state, GEN_HANDED_LOST, 1);
        return;
    }
    memcpy(state->handed + state->handed_to, head, sizeof head);
    memcpy(state->handed + state->handed_to + sizeof head, &stamp_ns, 8);
    if (bytes)
        memcpy(state->handed + state->handed_to + sizeof head + 8, data, (size_t)bytes);
    if (state->handed_from == state->handed_to && write(state->bell, &one, sizeof one) < 0)
        count(state, GEN_HANDED_LOST, 1);
    state->handed_to += room;
}

/* ---------------------------------------------------------------- lines */

/* When a datagram that is handed over now arrives; negative: never (load_tests.plan.line.Direction.admit). */
static double admit(const gen_line *line, direction *way, double now_s, int bytes)
{
    double at_s = now_s;
    if (line->cut)
        return -1;
    if (line->loss > 0 && roll(&way->dice) < line->loss)
        return -1;
    if (way->rate_bps > 0) {
        double begin_s = now_s > way->free_s ? now_s : way->free_s;
        if (begin_s - now_s > QUEUE_S)
            return -1;
        at_s = way->free_s = begin_s + bytes * 8 / way->rate_bps;
    }
    at_s += line->delay_s;
    if (line->jitter_s > 0)
        at_s += roll(&way->dice) * line->jitter_s;
    way->last_s = at_s > way->last_s + STEP_S ? at_s : way->last_s + STEP_S;
    return way->last_s;
}

static int put_in(direction *way, gen_peer *peer, double at_s, const unsigned char *data, int bytes)
{
    parcel *one = malloc(sizeof *one + (size_t)bytes);
    if (!one)
        return 0;
    *one = (parcel){.peer = peer, .at_s = at_s, .bytes = bytes};
    memcpy(one->data, data, (size_t)bytes);
    if (way->tail)
        way->tail->next = one;
    else
        way->head = one;
    way->tail = one;
    return 1;
}

static parcel *take_due(direction *way, double now_s)
{
    parcel *one = way->head;
    if (!one || one->at_s > now_s)
        return NULL;
    way->head = one->next;
    if (!way->head)
        way->tail = NULL;
    return one;
}

static void drop_parcels(direction *way, const gen_peer *peer)
{
    parcel **at = &way->head, *last = NULL;
    while (*at) {
        parcel *one = *at;
        if (!peer || one->peer == peer) {
            *at = one->next;
            free(one);
        } else {
            last = one;
            at = &one->next;
        }
    }
    way->tail = last;
}

/* ---------------------------------------------------------------- out */

static void flush(gen_state *state)
{
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    int from = 0;
    memset(messages, 0, sizeof messages[0] * (size_t)state->slot_count);
    for (int i = 0; i < state->slot_count; i++) {
        parts[i] = (struct iovec){state->slots[i], (size_t)state->slot_bytes[i]};
        messages[i].msg_hdr.msg_iov = parts + i;
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    while (from < state->slot_count) {
        int sent = sendmmsg(state->sender->fd, messages + from, (unsigned)(state->slot_count - from), MSG_DONTWAIT);
        if (sent > 0) {
            from += sent;
            continue;
        }
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno != ECONNREFUSED) /* refused: the worker is gone; as on a line, nobody is told */
            count(state, GEN_SEND_FAILED, 1);
        from++;
    }
    state->slot_count = 0;
}

/* Where the next datagram of a peer is laid out. */
static unsigned char *slot(gen_state *state, gen_peer *peer)
{
    if (state->slot_count && (state->sender != peer || state->slot_count == BATCH))
        flush(state);
    state->sender = peer;
    return state->slots[state->slot_count];
}

/* What was laid out sets out. */
static void leave(gen_state *state, gen_peer *peer, int bytes, double now_s)
{
    gen_line *line = peer->line;
    if (line && !line->perfect) {
        double at_s = admit(line, &line->up, now_s, bytes);
        if (at_s < 0) {
            count(state, GEN_LINE_LOST, 1);
            return;
        }
        if (at_s > now_s) {
            if (!put_in(&line->up, peer, at_s, state->slots[state->slot_count], bytes))
                count(state, GEN_SEND_FAILED, 1);
            return;
        }
    }
    state->slot_bytes[state->slot_count++] = bytes;
}

static void send_rtcp(gen_state *state, gen_peer *peer, unsigned char *packet, int bytes, double now_s)
{
    if (!peer->send || state->protect_rtcp(peer->send, packet, &bytes) != 0)
        return;
    leave(state, peer, bytes, now_s);
}

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

/* ---------------------------------------------------------------- taking: numbers */

static void record(gen_state *state, gen_peer *peer, uint16_t number, int64_t stamp_ns);

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

/* One transport-wide feedback from an arrival on; the first that is not in it (load_tests.feedback_runs). */
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

/* ---------------------------------------------------------------- taking: tracks */

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
    int bytes = put_head(packet, 1, 205, peer->own_ssrc, track->ssrc);
    count(state, GEN_NACK_OUT, many);
    for (int i = 0; i < many && bytes < 1200;) {
        int64_t first = numbers[i++];
        uint32_t mask = 0;
        for (; i < many && numbers[i] - first <= 16; i++)
            mask |= 1u << (numbers[i] - first - 1);
        put16(packet + bytes, (uint32_t)first & 0xFFFF);
        put16(packet + bytes + 2, mask);
        bytes += 4;
    }
    put16(packet + 2, (uint32_t)bytes / 4 - 1);
    send_rtcp(state, peer, packet, bytes, now_s);
}

static void hole(gen_state *state, gen_peer *peer, gen_track *track, int ahead, double now_s)
{
    int64_t numbers[MAX_MISSING];
    if (track->missing_count + ahead > MAX_MISSING) {
        track->lost += ahead - 1;
        count(state, GEN_RTP_LOST, ahead - 1);
        return;
    }
    for (int i = 0; i < ahead - 1; i++) {
        numbers[i] = track->highest + 1 + i;
        track->missing[track->missing_count++] = (gen_missing){numbers[i], now_s, now_s};
    }
    if (track->video)
        send_nack(state, peer, track, numbers, ahead - 1, now_s);
}

/* It is no longer missed; what is behind it moves up, so that numbers stay ascending. */
static void found(gen_track *track, int64_t number)
{
    for (int i = 0; i < track->missing_count; i++)
        if (track->missing[i].number == number) {
            memmove(track->missing + i, track->missing + i + 1,
                    sizeof track->missing[0] * (size_t)(--track->missing_count - i));
            return;
        }
}

static void picture(gen_state *state, gen_peer *peer, gen_track *track, double now_s)
{
    count(state, GEN_FRAMES_IN, 1);
    if (track->picture_s <= 0 && track->key_seen) {
        track->picture_s = now_s;
        hand_over(state, peer, GEN_CHANGED, NULL, 0, 0);
    }
    if (track->last_frame_s > 0) {
        double gap_s = now_s - track->last_frame_s, usual_s = track->frame_gap_s;
        double limit_s = 3 * usual_s > usual_s + FREEZE_LEAST_S ? 3 * usual_s : usual_s + FREEZE_LEAST_S;
        if (gap_s > limit_s) { /* WebRTC's definition of a freeze (webrtc-stats, freezeCount) */
            count(state, GEN_FREEZES, 1);
            add(state, GEN_FREEZE, gap_s * 1000);
        } else {
            track->frame_gap_s += (gap_s - usual_s) / 30;
        }
    }
    track->last_frame_s = now_s;
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

static void sample(gen_state *state, gen_peer *peer, gen_track *track, const unsigned char *data, int bytes,
                   int64_t stamp_ns)
{
    const unsigned char *packet = state->scratch, *trailer;
    int at;
    bytes = opened(state, peer, data, bytes);
    if (!bytes)
        return;
    at = payload_at(packet, bytes);
    if (!track->key_seen && track->video) {
        track->key_seen = at < bytes && starts_key_frame(packet + at, bytes - at);
        track->to_sample = track->key_seen ? SAMPLE_EVERY : 1;
    }
    trailer = packet + bytes - TRAILER_BYTES;
    if (bytes - at < TRAILER_BYTES || memcmp(trailer, MARK, sizeof MARK) != 0)
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
    double transit;
    track->packets++;
    count(state, GEN_RTP_IN, 1);
    count(state, GEN_RTP_IN_BYTES, bytes);
    if (track->highest < 0) {
        track->highest = seq;
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
            found(track, track->highest - (uint16_t)((uint16_t)track->highest - seq));
        }
    }
    transit = (double)stamp_ns / 1e9 * track->clock_hz - get32(data + 4);
    if (track->packets > 1) {
        double change = fabs(transit - track->transit);
        track->jitter += ((change < track->clock_hz ? change : track->clock_hz) - track->jitter) / 16;
    }
    track->transit = transit;
    if (track->video && data[1] & 0x80)
        picture(state, peer, track, now_s);
    if (--track->to_sample <= 0) {
        track->to_sample = SAMPLE_EVERY;
        sample(state, peer, track, data, bytes, stamp_ns);
    }
}

static void take_repair(gen_state *state, gen_peer *peer, gen_track *track, const unsigned char *data, int bytes)
{
    int at;
    count(state, GEN_RTX_IN, 1);
    bytes = opened(state, peer, data, bytes);
    if (!bytes || track->highest < 0)
        return;
    at = payload_at(state->scratch, bytes);
    if (at + 2 <= bytes)
        found(track, track->highest - (uint16_t)((uint16_t)track->highest - get16(state->scratch + at)));
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
            take_repair(state, peer, track, data, bytes);
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

/* Ask again for what is missing; what does not come is lost, and a picture then needs a key frame. */
static void settle(gen_state *state, gen_peer *peer, gen_track *track, double now_s, int ending)
{
    int64_t again[MAX_MISSING];
    int many = 0, left = 0;
    for (int i = 0; i < track->missing_count; i++) {
        gen_missing one = track->missing[i];
        if (ending || now_s - one.missed_s > GIVEN_UP_S) {
            track->lost++;
            count(state, GEN_RTP_LOST, 1);
            if (track->video && !ending && now_s - track->pli_s > PLI_AGAIN_S) {
                track->pli_s = now_s;
                send_pli(state, peer, track, now_s);
            }
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
}

/* Once a second: receiver reports. */
static void report_received(gen_state *state, gen_peer *peer, double now_s)
{
    unsigned char *packet = slot(state, peer);
    int bytes = 0, position = 0;
    do {
        unsigned char *head = packet + bytes;
        int blocks = 0;
        head[1] = 201;
        put32(head + 4, peer->own_ssrc);
        bytes += 8;
        for (; position < peer->track_count && blocks < 31; position++) {
            gen_track *track = peer->tracks[position];
            int64_t lost = track->lost - track->lost_told, packets = track->packets - track->packets_told, share;
            if (track->highest < 0)
                continue;
            add(state, GEN_JITTER, track->jitter / track->clock_hz * 1000);
            track->lost_told = track->lost;
            track->packets_told = track->packets;
            share = 256 * lost / (lost + packets > 1 ? lost + packets : 1);
            put32(packet + bytes, track->ssrc);
            put32(packet + bytes + 4,
                  (uint32_t)(share > 255 ? 255 : share) << 24 |
                      (uint32_t)(track->lost > 0x7FFFFF ? 0x7FFFFF : track->lost));
            put32(packet + bytes + 8, (uint32_t)track->highest);
            put32(packet + bytes + 12, (uint32_t)track->jitter);
            put32(packet + bytes + 16, track->lsr);
            put32(packet + bytes + 20, track->lsr ? (uint32_t)((now_s - track->report_s) * 65536) : 0);
            bytes += 24;
            blocks++;
        }
        head[0] = (unsigned char)(0x80 | blocks);
        put16(head + 2, (uint32_t)(1 + 6 * blocks));
    } while (position < peer->track_count && bytes < 1000);
    bytes += put_sdes(packet + bytes, peer->own_ssrc);
    send_rtcp(state, peer, packet, bytes, now_s);
}

/* ---------------------------------------------------------------- sending */

static int lay_out_payload(const gen_state *state, const gen_peer *peer, const gen_layer *layer, const kept *what,
                           unsigned char *at)
{
    int head = 5, trailer = what->bytes - TRAILER_BYTES;
    const unsigned char *frame = what->key ? layer->key : layer->still;
    int bytes = what->key ? layer->key_bytes : layer->still_bytes;
    at[0] = (unsigned char)(0x80 | (what->first ? 0x10 : 0));
    at[1] = 0xC0;
    put16(at + 2, 0x8000 | (what->frame & 0x7FFF));
    at[4] = (unsigned char)what->frame;
    if (what->first) { /* load_tests.session.picture */
        int room = trailer - head;
        if (bytes > room)
            bytes = room;
        memcpy(at + head, frame, (size_t)bytes);
        head += bytes;
    }
    memcpy(at + head, state->filler, (size_t)(trailer - head));
    memcpy(at + trailer, MARK, sizeof MARK);
    put32(at + trailer + 4, peer->consult);
    put32(at + trailer + 8, (uint32_t)((uint64_t)what->stamp_ns >> 32));
    put32(at + trailer + 12, (uint32_t)what->stamp_ns);
    return what->bytes;
}

static void finish(gen_state *state, gen_peer *peer, unsigned char *packet, int bytes, double now_s)
{
    uint16_t number = ++peer->wide;
    put16(packet + 12 + 5, number);
    if (state->protect(peer->send, packet, &bytes) != 0)
        return;
    peer->sent_us[number % REMEMBERED] = (int64_t)(now_s * 1e6);
    peer->sent_bytes[number % REMEMBERED] = (uint16_t)bytes;
    peer->heard.sent_bytes += bytes;
    leave(state, peer, bytes, now_s);
}

static int put_rtp(unsigned char *packet, int type, int marker, uint16_t seq, uint32_t timestamp, uint32_t ssrc,
                   const unsigned char *block, int block_bytes)
{
    packet[0] = 0x90;
    packet[1] = (unsigned char)(marker << 7 | type);
    put16(packet + 2, seq);
    put32(packet + 4, timestamp);
    put32(packet + 8, ssrc);
    memcpy(packet + 12, block, (size_t)block_bytes);
    return 12 + block_bytes;
}

static void send_queued(gen_state *state, gen_peer *peer, const queued *one, double now_s)
{
    stream *way = peer->layers + one->layer;
    kept what = {.timestamp = one->timestamp, .frame = one->frame, .bytes = one->bytes, .first = one->first, .key = one->key};
    unsigned char *packet = slot(state, peer);
    int bytes;
    what.seq = ++way->is.seq;
    what.stamp_ns = peer->sends_timed ? wall_ns(state) : 0;
    way->packets++;
    way->octets += one->bytes;
    way->history[what.seq % HISTORY] = what;
    bytes = put_rtp(packet, peer->payload_type, one->last, way->is.seq, one->timestamp, way->is.ssrc, way->is.block,
                    way->is.block_bytes);
    bytes += lay_out_payload(state, peer, &way->is, &what, packet + bytes);
    finish(state, peer, packet, bytes, now_s);
    count(state, GEN_RTP_OUT, 1);
}

/* Send a packet again that is still kept (RFC 4588). */
static void repair(gen_state *state, gen_peer *peer, stream *way, uint16_t seq, double now_s)
{
    const kept *what = way->history + seq % HISTORY;
    unsigned char *packet;
    int bytes;
    if (what->seq != seq || !peer->send)
        return;
    packet = slot(state, peer);
    bytes = put_rtp(packet, peer->rtx_payload_type, 0, ++way->is.rtx_seq, what->timestamp, way->is.rtx_ssrc,
                    way->is.rtx_block, way->is.rtx_block_bytes);
    put16(packet + bytes, seq);
    bytes += 2;
    bytes += lay_out_payload(state, peer, &way->is, what, packet + bytes);
    finish(state, peer, packet, bytes, now_s);
    count(state, GEN_RTX_OUT, 1);
}

static void cut_picture(gen_peer *peer, int index, uint32_t timestamp)
{
    stream *way = peer->layers + index;
    int key = way->key_wanted, many, each;
    double size = (double)way->is.bitrate_bps / 8 / way->is.frames_per_s;
    way->key_wanted = 0;
    size *= key ? (double)KEY_FACTOR : (double)peer->sizes[peer->size_at++ % peer->size_count];
    many = (int)ceil(size / PAYLOAD_BYTES);
    many = many < 1 ? 1 : many;
    each = (int)(size / many);
    each = each < 24 ? 24 : each;
    for (int i = 0; i < many; i++) {
        int head = i ? 5 : key ? 15 : 8;
        int bytes = each > head + TRAILER_BYTES ? each : head + TRAILER_BYTES;
        if (peer->queue_count == peer->queue_room)
            return; /* more than any camera here makes: the rest of the picture is not sent */
        peer->queue[(peer->queue_head + peer->queue_count++) % peer->queue_room] =
            (queued){index, bytes, timestamp, peer->frame, i == 0, (uint8_t)key, i == many - 1};
    }
}

static void pace(gen_state *state, gen_peer *peer, double now_s)
{
    double bitrate = 0, budget;
    for (int i = 0; i < peer->layer_count; i++)
        bitrate += peer->layers[i].is.bitrate_bps;
    budget = bitrate / 8 * PACER_FACTOR * PACER_S;
    while (peer->queue_count && budget > 0) {
        queued one = peer->queue[peer->queue_head];
        peer->queue_head = (peer->queue_head + 1) % peer->queue_room;
        peer->queue_count--;
        send_queued(state, peer, &one, now_s);
        budget -= one.bytes - TRAILER_BYTES;
    }
    peer->pace_s = peer->queue_count ? now_s + PACER_S : INFINITY;
}

static uint32_t camera_time(const gen_peer *peer, double now_s)
{
    return (uint32_t)(int64_t)((now_s - peer->began_s) * 90000);
}

static void take_picture(gen_state *state, gen_peer *peer, double now_s)
{
    double each_s = 1.0 / peer->layers[0].is.frames_per_s;
    uint32_t timestamp = camera_time(peer, now_s);
    /* Behind by more than a picture: leave the missed ones out, as a camera does. */
    peer->picture_s = peer->picture_s + each_s > now_s ? peer->picture_s + each_s : now_s;
    for (int i = 0; i < peer->layer_count; i++)
        if (peer->layers[i].is.bitrate_bps)
            cut_picture(peer, i, timestamp);
    peer->frame++;
    if (peer->pace_s == INFINITY)
        pace(state, peer, now_s);
}

static void speak(gen_state *state, gen_peer *peer, double now_s)
{
    stream *way = &peer->sound;
    int64_t late = (int64_t)((now_s - peer->sound_s) / AUDIO_S), stamp_ns = peer->sends_timed ? wall_ns(state) : 0;
    unsigned char *packet = slot(state, peer);
    int bytes;
    peer->spoken += 1 + late; /* sound that could not be sent in time was still spoken */
    peer->sound_s += AUDIO_S * (double)(1 + late);
    way->is.block[peer->level_at] = fmod(now_s + peer->phase_s, 4) < 2 ? 0x9E : 0x7F;
    way->packets++;
    way->octets += AUDIO_BYTES;
    bytes = put_rtp(packet, peer->audio_type, 0, ++way->is.seq, (uint32_t)(peer->spoken * 960), way->is.ssrc,
                    way->is.block, way->is.block_bytes);
    memcpy(packet + bytes, state->filler, AUDIO_BYTES - TRAILER_BYTES);
    bytes += AUDIO_BYTES - TRAILER_BYTES;
    memcpy(packet + bytes, MARK, sizeof MARK);
    put32(packet + bytes + 4, peer->consult);
    put32(packet + bytes + 8, (uint32_t)((uint64_t)stamp_ns >> 32));
    put32(packet + bytes + 12, (uint32_t)stamp_ns);
    finish(state, peer, packet, bytes + TRAILER_BYTES, now_s);
    count(state, GEN_RTP_OUT, 1);
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
            bytes += put_report(state, packet + bytes, peer->layers + i, camera_time(peer, now_s));
    if (peer->sound_s != INFINITY)
        bytes += put_report(state, packet + bytes, &peer->sound, (uint32_t)(peer->spoken * 960));
    if (!bytes)
        return;
    bytes += put_sdes(packet + bytes, get32(packet + 4));
    send_rtcp(state, peer, packet, bytes, now_s);
}

/* ---------------------------------------------------------------- being told */

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
            peer->heard.remb_bps = (int64_t)(get32(at + 16) & 0x3FFFF) << (at[17] >> 2);
        return 1;
    default:
        return 1;
    }
}

static void take_rtcp(gen_state *state, gen_peer *peer, const unsigned char *data, int bytes, double now_s)
{
    unsigned char packet[2048];
    int good = bytes <= 1600, at = 0;
    if (good) {
        memcpy(packet, data, (size_t)bytes);
        good = peer->receive && state->unprotect_rtcp(peer->receive, packet, &bytes) == 0;
    }
    /* Checked whole before any of it counts (media.core.rtcp.parse). */
    for (int p = 0; good && p < bytes; p += 4 + 4 * (int)get16(packet + p + 2))
        good = p + 4 <= bytes && packet[p] >> 6 == 2 && p + 4 + 4 * (int)get16(packet + p + 2) <= bytes;
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

/* ---------------------------------------------------------------- the sockets */

/* One datagram at this end of the line. */
static void take(gen_state *state, gen_peer *peer, const unsigned char *data, int bytes, int64_t stamp_ns, double now_s)
{
    if (bytes < 1)
        return;
    if (data[0] < 128 || data[0] > 191) {
        hand_over(state, peer, GEN_DATAGRAM, data, bytes, stamp_ns);
    } else if (bytes < 12 || bytes > 1600) {
        count(state, GEN_RTP_UNREADABLE, 1);
    } else if (data[1] >= 192 && data[1] <= 223) {
        take_rtcp(state, peer, data, bytes, now_s);
    } else {
        take_rtp(state, peer, data, bytes, stamp_ns, now_s);
    }
}

static void arrive(gen_state *state, gen_peer *peer, const unsigned char *data, int bytes, int segment, int64_t stamp_ns,
                   double now_s)
{
    gen_line *line = peer->line;
    for (int at = 0; at < bytes; at += segment) {
        int length = bytes - at < segment ? bytes - at : segment;
        double at_s;
        if (!line || line->perfect) {
            take(state, peer, data + at, length, stamp_ns ? stamp_ns : wall_ns(state), now_s);
            continue;
        }
        at_s = admit(line, &line->down, now_s, length);
        if (at_s < 0 || (at_s > now_s && !put_in(&line->down, peer, at_s, data + at, length)))
            count(state, GEN_LINE_LOST, 1);
        else if (at_s <= now_s)
            take(state, peer, data + at, length, wall_ns(state), now_s);
    }
}

static void receive(gen_state *state, gen_peer *peer, double now_s)
{
    struct mmsghdr messages[READS];
    struct iovec parts[READS];
    unsigned char control[READS][128];
    int many;
    do {
        memset(messages, 0, sizeof messages);
        for (int i = 0; i < READS; i++) {
            parts[i] = (struct iovec){state->reads[i], READ_BYTES};
            messages[i].msg_hdr.msg_iov = parts + i;
            messages[i].msg_hdr.msg_iovlen = 1;
            messages[i].msg_hdr.msg_control = control[i];
            messages[i].msg_hdr.msg_controllen = sizeof control[i];
        }
        many = recvmmsg(peer->fd, messages, READS, MSG_DONTWAIT, NULL);
        for (int i = 0; i < many; i++) {
            int bytes = (int)messages[i].msg_len, segment = bytes;
            int64_t stamp_ns = 0;
            for (struct cmsghdr *at = CMSG_FIRSTHDR(&messages[i].msg_hdr); at; at = CMSG_NXTHDR(&messages[i].msg_hdr, at)) {
                if (at->cmsg_level == IPPROTO_UDP && at->cmsg_type == UDP_GRO)
                    memcpy(&segment, CMSG_DATA(at), sizeof segment);
                if (at->cmsg_level == SOL_SOCKET && at->cmsg_type == SO_TIMESTAMPNS) {
                    struct timespec stamp;
                    memcpy(&stamp, CMSG_DATA(at), sizeof stamp);
                    stamp_ns = (int64_t)stamp.tv_sec * 1000000000 + stamp.tv_nsec;
                }
            }
            if (segment > 0)
                arrive(state, peer, state->reads[i], bytes, segment, stamp_ns, now_s);
        }
    } while (many == READS);
}

/* ---------------------------------------------------------------- the turn */

static void set_due(gen_peer *peer)
{
    double due_s = peer->listening ? (peer->feedback_s < peer->report_s ? peer->feedback_s : peer->report_s) : INFINITY;
    double others[4] = {peer->speak_s, peer->picture_s, peer->pace_s, peer->sound_s};
    for (int i = 0; i < 4; i++)
        due_s = others[i] < due_s ? others[i] : due_s;
    peer->due_s = due_s;
}

static double next_of(double due_s, double interval_s, double now_s)
{
    return due_s + interval_s > now_s ? due_s + interval_s : now_s + interval_s;
}

static void do_due(gen_state *state, gen_peer *peer, double now_s)
{
    if (peer->send) {
        if (peer->picture_s <= now_s)
            take_picture(state, peer, now_s);
        if (peer->pace_s <= now_s)
            pace(state, peer, now_s);
        if (peer->sound_s <= now_s)
            speak(state, peer, now_s);
    }
    if (peer->speak_s <= now_s) {
        peer->speak_s = next_of(peer->speak_s, 1.0, now_s);
        report_sent(state, peer, now_s);
    }
    if (peer->listening && peer->feedback_s <= now_s) {
        peer->feedback_s = next_of(peer->feedback_s, 0.1, now_s);
        tell_arrivals(state, peer, now_s);
        for (int i = 0; i < peer->track_count; i++)
            if (peer->tracks[i]->missing_count)
                settle(state, peer, peer->tracks[i], now_s, 0);
    }
    if (peer->listening && peer->report_s <= now_s) {
        peer->report_s = next_of(peer->report_s, 1.0, now_s);
        report_received(state, peer, now_s);
    }
    set_due(peer);
}

/* Somebody may have the lock now. */
static void give_way(gen_state *state)
{
    if (!atomic_load(&state->asking))
        return;
    if (state->slot_count)
        flush(state);
    pthread_mutex_unlock(&state->lock);
    pthread_mutex_lock(&state->turnstile);
    pthread_mutex_unlock(&state->turnstile);
    pthread_mutex_lock(&state->lock);
}

static void enter(gen_state *state)
{
    atomic_fetch_add(&state->asking, 1);
    pthread_mutex_lock(&state->turnstile);
    pthread_mutex_lock(&state->lock);
    pthread_mutex_unlock(&state->turnstile);
    atomic_fetch_sub(&state->asking, 1);
}

static void leave_lock(gen_state *state)
{
    if (state->slot_count)
        flush(state);
    pthread_mutex_unlock(&state->lock);
}

static int alive(const gen_state *state, const gen_peer *peer)
{
    for (int i = 0; i < state->peer_count; i++)
        if (state->peers[i] == peer)
            return 1;
    return 0;
}

static void move_parcels(gen_state *state, double now_s)
{
    parcel *one;
    for (gen_line *line = state->lines; line; line = line->next) {
        while ((one = take_due(&line->up, now_s))) {
            memcpy(slot(state, one->peer), one->data, (size_t)one->bytes);
            state->slot_bytes[state->slot_count++] = one->bytes;
            free(one);
        }
        while ((one = take_due(&line->down, now_s))) {
            take(state, one->peer, one->data, one->bytes, wall_ns(state), now_s);
            free(one);
        }
    }
}

/* One look at everything. */
static void turn(gen_state *state, double now_s)
{
    struct epoll_event events[EVENTS];
    int many, rounds = 0;
    move_parcels(state, now_s);
    do {
        int closings = state->closings;
        many = epoll_wait(state->epoll, events, EVENTS, 0);
        for (int i = 0; i < many; i++) {
            gen_peer *peer = events[i].data.ptr; /* may be closed while somebody else has the lock */
            if (closings == state->closings || alive(state, peer))
                receive(state, peer, now_s);
            give_way(state);
        }
    } while (many == EVENTS && ++rounds < 8);
    for (int i = 0; i < state->peer_count; i++)
        if (state->peers[i]->due_s <= now_s) {
            do_due(state, state->peers[i], now_s);
            give_way(state);
        }
    if (state->slot_count)
        flush(state);
}

/* Play until told to stop: for a thread of its own. */
void gen_run(gen_state *state)
{
    struct timespec due;
    clock_gettime(CLOCK_MONOTONIC, &due);
    while (!atomic_load(&state->stopping)) {
        struct timespec now;
        double due_s, now_s;
        int many;
        due.tv_nsec = due.tv_nsec / TICK_NS * TICK_NS + TICK_NS;
        if (due.tv_nsec >= 1000000000) {
            due.tv_nsec -= 1000000000;
            due.tv_sec++;
        }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        due_s = (double)due.tv_sec + (double)due.tv_nsec * 1e-9;
        pthread_mutex_lock(&state->lock);
        now_s = monotonic_s();
        if (due_s >= state->probe_s) {
            if (state->peer_count)
                add(state, GEN_LATE, (now_s - due_s) * 1000);
            state->probe_s = due_s + PROBE_S;
        }
        turn(state, now_s);
        many = state->peer_count;
        pthread_mutex_unlock(&state->lock);
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec > due.tv_sec || (now.tv_sec == due.tv_sec && now.tv_nsec > due.tv_nsec))
            due = now;
        if (!many) { /* nobody is here yet */
            struct timespec idle = {0, 10000000};
            nanosleep(&idle, NULL);
            clock_gettime(CLOCK_MONOTONIC, &due);
        }
    }
}

/* One look at a moment that the caller names, without the thread: for tests. */
void gen_turn(gen_state *state, double now_s, int64_t now_ns)
{
    pthread_mutex_lock(&state->lock);
    state->wall_ns = now_ns;
    turn(state, now_s);
    pthread_mutex_unlock(&state->lock);
}

/* ---------------------------------------------------------------- the caller's side */

gen_state *gen_new(gen_srtp protect, gen_srtp unprotect, gen_srtp protect_rtcp, gen_srtp unprotect_rtcp)
{
    gen_state *state = calloc(1, sizeof *state);
    uint64_t dice = 1;
    if (!state)
        return NULL;
    state->protect = protect;
    state->unprotect = unprotect;
    state->protect_rtcp = protect_rtcp;
    state->unprotect_rtcp = unprotect_rtcp;
    pthread_mutex_init(&state->lock, NULL);
    pthread_mutex_init(&state->turnstile, NULL);
    state->epoll = epoll_create1(EPOLL_CLOEXEC);
    state->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    for (size_t i = 0; i < sizeof state->filler; i++)
        state->filler[i] = (unsigned char)(roll(&dice) * 256);
    if (state->epoll < 0 || state->bell < 0) {
        gen_free(state);
        return NULL;
    }
    return state;
}

int gen_bell(const gen_state *state)
{
    return state->bell;
}

void gen_stop(gen_state *state)
{
    atomic_store(&state->stopping, 1);
}

/* Everything at once; nobody else may be in here. */
void gen_free(gen_state *state)
{
    while (state->peer_count)
        gen_peer_free(state, state->peers[0]);
    while (state->lines)
        gen_line_free(state, state->lines);
    free(state->peers);
    if (state->epoll >= 0)
        close(state->epoll);
    if (state->bell >= 0)
        close(state->bell);
    pthread_mutex_destroy(&state->lock);
    pthread_mutex_destroy(&state->turnstile);
    free(state);
}

void gen_figures_take(gen_state *state, gen_figures *figures)
{
    enter(state);
    memcpy(figures, &state->figures, sizeof *figures);
    memset(&state->figures, 0, sizeof state->figures);
    leave_lock(state);
}

/* The oldest of what is handed over: its bytes, or -1 when there is nothing. */
int gen_take(gen_state *state, unsigned char *room, int room_bytes, int *peer, int *kind, int64_t *stamp_ns)
{
    int32_t head[4];
    uint64_t rung;
    enter(state);
    if (state->handed_from == state->handed_to) {
        state->handed_from = state->handed_to = 0;
        if (read(state->bell, &rung, sizeof rung) < 0 && errno != EAGAIN)
            count(state, GEN_HANDED_LOST, 1);
        leave_lock(state);
        return -1;
    }
    memcpy(head, state->handed + state->handed_from, sizeof head);
    memcpy(stamp_ns, state->handed + state->handed_from + sizeof head, 8);
    *peer = head[1];
    *kind = head[2];
    if (head[0] > room_bytes)
        head[0] = room_bytes;
    memcpy(room, state->handed + state->handed_from + sizeof head + 8, (size_t)head[0]);
    memcpy(head + 3, state->handed + state->handed_from, 4);
    state->handed_from += (int)sizeof head + 8 + ((head[3] + 7) & ~7);
    leave_lock(state);
    return head[0];
}

gen_line *gen_line_new(gen_state *state, double loss, double delay_s, double jitter_s, double up_bps, double down_bps,
                       uint64_t up_seed, uint64_t down_seed)
{
    gen_line *line = calloc(1, sizeof *line);
    if (!line)
        return NULL;
    line->loss = loss;
    line->delay_s = delay_s;
    line->jitter_s = jitter_s;
    line->up = (direction){.rate_bps = up_bps, .dice = up_seed};
    line->down = (direction){.rate_bps = down_bps, .dice = down_seed};
    enter(state);
    line->next = state->lines;
    state->lines = line;
    leave_lock(state);
    gen_line_cut(state, line, 0);
    return line;
}

void gen_line_cut(gen_state *state, gen_line *line, int cut)
{
    enter(state);
    line->cut = cut;
    line->perfect = !cut && line->loss <= 0 && line->delay_s <= 0 && line->jitter_s <= 0 && line->up.rate_bps <= 0 &&
                    line->down.rate_bps <= 0;
    leave_lock(state);
}

/* From now on the line loses this share, whatever it lost before. */
void gen_line_lose(gen_state *state, gen_line *line, double loss)
{
    enter(state);
    line->loss = loss;
    leave_lock(state);
    gen_line_cut(state, line, line->cut);
}

/* A Transport that is still there goes on without a line. */
void gen_line_free(gen_state *state, gen_line *line)
{
    enter(state);
    for (int i = 0; i < state->peer_count; i++)
        if (state->peers[i]->line == line)
            state->peers[i]->line = NULL;
    for (gen_line **at = &state->lines; *at; at = &(*at)->next)
        if (*at == line) {
            *at = line->next;
            break;
        }
    drop_parcels(&line->up, NULL);
    drop_parcels(&line->down, NULL);
    leave_lock(state);
    free(line);
}

gen_peer *gen_peer_new(gen_state *state, int id, int fd, gen_line *line, uint32_t consult, uint32_t own_ssrc)
{
    gen_peer *peer = calloc(1, sizeof *peer);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
    if (!peer)
        return NULL;
    peer->id = id;
    peer->fd = fd;
    peer->line = line;
    peer->consult = consult;
    peer->own_ssrc = own_ssrc;
    peer->wide_next = -1;
    peer->feedback_s = peer->report_s = peer->speak_s = peer->picture_s = peer->pace_s = peer->sound_s = INFINITY;
    set_due(peer);
    enter(state);
    if (state->peer_count == state->peer_room) {
        int room = state->peer_room ? 2 * state->peer_room : 64;
        gen_peer **peers = realloc(state->peers, sizeof *peers * (size_t)room);
        if (!peers) {
            leave_lock(state);
            free(peer);
            return NULL;
        }
        state->peers = peers;
        state->peer_room = room;
    }
    state->peers[state->peer_count++] = peer;
    epoll_ctl(state->epoll, EPOLL_CTL_ADD, fd, &event);
    leave_lock(state);
    return peer;
}

/* Before its socket is closed and its keys are gone. What is missing then is lost. */
void gen_peer_free(gen_state *state, gen_peer *peer)
{
    enter(state);
    epoll_ctl(state->epoll, EPOLL_CTL_DEL, peer->fd, NULL);
    state->closings++;
    for (int i = 0; i < state->peer_count; i++)
        if (state->peers[i] == peer) {
            memmove(state->peers + i, state->peers + i + 1, sizeof *state->peers * (size_t)(--state->peer_count - i));
            break;
        }
    if (peer->line) {
        drop_parcels(&peer->line->up, peer);
        drop_parcels(&peer->line->down, peer);
    }
    for (int i = 0; i < peer->track_count; i++) {
        settle(state, peer, peer->tracks[i], 0, 1);
        free(peer->tracks[i]);
    }
    for (int i = 0; i < peer->layer_count; i++)
        free(peer->layers[i].history);
    leave_lock(state);
    free(peer->arrivals);
    free(peer->queue);
    free(peer->sent_us);
    free(peer->sent_bytes);
    free(peer);
}

/* Contexts of libsrtp; NULL: none any more. */
void gen_keys(gen_state *state, gen_peer *peer, void *receive, void *send)
{
    enter(state);
    peer->receive = receive;
    peer->send = send;
    leave_lock(state);
}

/* A datagram of the caller's sets out: 0 when the socket was full. */
int gen_send(gen_state *state, gen_peer *peer, const unsigned char *data, int bytes)
{
    int64_t failed;
    if (bytes < 1 || bytes > SLOT_BYTES)
        return 0;
    enter(state);
    failed = state->figures.counts[GEN_SEND_FAILED];
    memcpy(slot(state, peer), data, (size_t)bytes);
    leave(state, peer, bytes, monotonic_s());
    if (state->slot_count)
        flush(state);
    failed = state->figures.counts[GEN_SEND_FAILED] - failed;
    leave_lock(state);
    return !failed;
}

gen_track *gen_track_new(gen_state *state, gen_peer *peer, uint32_t ssrc, uint32_t rtx_ssrc, int video, int clock_hz)
{
    gen_track *track = calloc(1, sizeof *track);
    if (!track)
        return NULL;
    track->ssrc = ssrc;
    track->rtx_ssrc = rtx_ssrc;
    track->video = video;
    track->clock_hz = clock_hz;
    track->highest = -1;
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

static int remember(gen_peer *peer)
{
    if (!peer->sent_us)
        peer->sent_us = calloc(REMEMBERED, sizeof *peer->sent_us);
    if (!peer->sent_bytes)
        peer->sent_bytes = calloc(REMEMBERED, sizeof *peer->sent_bytes);
    peer->speaking = peer->sent_us && peer->sent_bytes;
    return peer->speaking;
}

void gen_camera(gen_state *state, gen_peer *peer, const gen_layer *layers, int count_, const float *sizes, int size_count,
                int size_at, double due_s, int payload_type, int rtx_payload_type, int timed)
{
    double bitrate = 0;
    enter(state);
    peer->queue_room = 4096;
    peer->queue = calloc((size_t)peer->queue_room, sizeof *peer->queue);
    if (remember(peer) && peer->queue) {
        for (int i = 0; i < count_ && i < MAX_LAYERS; i++) {
            stream *way = peer->layers + i;
            *way = (stream){.is = layers[i], .key_wanted = 1, .history = malloc(HISTORY * sizeof(kept))};
            if (!way->history)
                break;
            for (int k = 0; k < HISTORY; k++)
                way->history[k].seq = -1;
            bitrate += layers[i].bitrate_bps;
            peer->layer_count = i + 1;
        }
        peer->sizes = sizes;
        peer->size_count = size_count;
        peer->size_at = size_at;
        peer->payload_type = payload_type;
        peer->rtx_payload_type = rtx_payload_type;
        peer->sends_timed = timed;
        peer->began_s = due_s;
        peer->picture_s = due_s;
    }
    set_due(peer);
    leave_lock(state);
}

/* Bitrates of a camera's layers from now on; 0: not sent. What comes back begins with a key frame. */
void gen_rates(gen_state *state, gen_peer *peer, const int32_t *bitrates_bps, int count_)
{
    enter(state);
    for (int i = 0; i < count_ && i < peer->layer_count; i++) {
        stream *way = peer->layers + i;
        if (!way->is.bitrate_bps && bitrates_bps[i])
            way->key_wanted = 1;
        way->is.bitrate_bps = bitrates_bps[i];
    }
    leave_lock(state);
}

void gen_microphone(gen_state *state, gen_peer *peer, const gen_layer *is, double due_s, double phase_s, int payload_type,
                    int level_at, int timed)
{
    enter(state);
    if (remember(peer)) {
        peer->sound = (stream){.is = *is};
        peer->sound_s = due_s;
        peer->phase_s = phase_s;
        peer->audio_type = payload_type;
        peer->level_at = level_at;
        peer->sends_timed = timed;
    }
    set_due(peer);
    leave_lock(state);
}

/* Sender reports from this moment on; INFINITY: silence. */
void gen_speak(gen_state *state, gen_peer *peer, double report_s)
{
    enter(state);
    peer->speak_s = report_s;
    if (report_s == INFINITY)
        peer->picture_s = peer->pace_s = peer->sound_s = INFINITY;
    set_due(peer);
    leave_lock(state);
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
