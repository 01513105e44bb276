/* What the files of the generator's C side share; nobody else includes it.
 *
 * All media of a generator's sessions, in one thread of its own, without Python: datagrams in, counted and answered as a
 * browser answers; pictures and sound out, paced, numbered, encrypted; the emulated lines in between.
 *
 *   line.c       the lines, and setting out        send.c       cameras, microphones, repairs
 *   receive.c    media that comes                  loop.c       the thread, its lock, the sockets
 *   rtcp_out.c   feedback, NACK, reports           caller.c     Transports, what is handed over
 *   rtcp_in.c    what the server tells
 *
 * They are one translation unit (build_generator.py), so what one file offers another is static as well and is declared
 * at the end of this one. load_tests/session/receiving.py, sending.py and plan/line.py remain the description of what is
 * done here, and its twins in tests. libsrtp is not linked: the caller gives the addresses of what is in the process. */
#ifndef LOAD_TESTS_INSIDE_H
#define LOAD_TESTS_INSIDE_H
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
#define ROUNDS 16             /* such calls for one Transport at one look */
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
#define KEY_WAIT_S 0.2
#define MOST_ENDS 64
#define WAITS 3
#define WAITS_S 60.0
#define MOST_HELD_S 0.5
#define FORGOTTEN 64
#define PROBATOR 1234
#define ARRIVALS 1024
#define WIDE_ID 5
#define TICK_WIDE_NS 250000
#define MAX_STATUSES 900      /* load_tests.rig.feedback_runs, as the next */
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
    uint8_t last;
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
    int over;                 /* its keys are gone: what still comes is nobody's */
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
    int64_t reference;        /* of the newest feedback, unwrapped; -1: none came */
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
    _Alignas(8) unsigned char slots[BATCH][SLOT_BYTES]; /* libsrtp looks at words, as in what is read */

    unsigned char handed[HANDED_BYTES];
    int handed_from, handed_to;
    int64_t wall_ns;          /* not 0: it stands there */
    int64_t ahead_ns;         /* this machine's clock before the run's */
    unsigned char filler[2048];
    _Alignas(8) unsigned char scratch[SLOT_BYTES + 512];
    unsigned char reads[READS][READ_BYTES];
};

/* ---------------------------------------------------------------- small things */

static inline uint32_t get16(const unsigned char *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static inline uint32_t get32(const unsigned char *at)
{
    return get16(at) << 16 | get16(at + 2);
}

static inline void put16(unsigned char *at, uint32_t value)
{
    at[0] = (unsigned char)(value >> 8);
    at[1] = (unsigned char)value;
}

static inline void put32(unsigned char *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value);
}

static inline double monotonic_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static inline int64_t wall_ns(const gen_state *state)
{
    struct timespec now;
    if (state->wall_ns)
        return state->wall_ns;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec - state->ahead_ns;
}

static inline void count(gen_state *state, int what, int64_t times)
{
    state->figures.counts[what] += times;
}

/* load_tests.plan.line.Dice */
static inline double roll(uint64_t *dice)
{
    uint64_t z = *dice += 0x9E3779B97F4A7C15ULL;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}

/* ---------------------------------------------------------------- across files */

/* line.c */
static double admit(const gen_line *line, direction *way, double now_s, int bytes);
static int put_in(direction *way, gen_peer *peer, double at_s, const unsigned char *data, int bytes);
static void drop_parcels(direction *way, const gen_peer *peer);
static void flush(gen_state *state);
static unsigned char *slot(gen_state *state, gen_peer *peer);
static void leave(gen_state *state, gen_peer *peer, int bytes, double now_s);
static void send_rtcp(gen_state *state, gen_peer *peer, unsigned char *packet, int bytes, double now_s);
static void move_parcels(gen_state *state, double now_s);

/* receive.c */
static void add(gen_state *state, int what, double value);
static void take_rtp(gen_state *state, gen_peer *peer, const unsigned char *data, int bytes, int64_t stamp_ns,
                     double now_s);
static void show(gen_state *state, gen_peer *peer, gen_track *track, double now_s);

/* rtcp_out.c */
static void number_of(gen_state *state, gen_peer *peer, const unsigned char *data, int bytes, int64_t stamp_ns);
static void tell_arrivals(gen_state *state, gen_peer *peer, double now_s);
static void send_nack(gen_state *state, gen_peer *peer, const gen_track *track, const int64_t *numbers, int many,
                      double now_s);
static void break_off(gen_state *state, gen_peer *peer, gen_track *track, int64_t from, double now_s);
static void settle(gen_state *state, gen_peer *peer, gen_track *track, double now_s, int ending);
static void report_received(gen_state *state, gen_peer *peer, double now_s);
static void report_sent(gen_state *state, gen_peer *peer, double now_s);
static void record(gen_state *state, gen_peer *peer, uint16_t number, int64_t stamp_ns);

/* rtcp_in.c */
static void take_rtcp(gen_state *state, gen_peer *peer, const unsigned char *data, int bytes, double now_s);

/* send.c */
static void repair(gen_state *state, gen_peer *peer, stream *way, uint16_t seq, double now_s);
static void pace(gen_state *state, gen_peer *peer, double now_s);
static uint32_t camera_time(const gen_peer *peer, double now_s);
static void take_picture(gen_state *state, gen_peer *peer, double now_s);
static void speak(gen_state *state, gen_peer *peer, double now_s);
static void drop_camera(gen_peer *peer);

/* loop.c */
static void take(gen_state *state, gen_peer *peer, const unsigned char *data, int bytes, int64_t stamp_ns, double now_s);
static void set_due(gen_peer *peer);
static void enter(gen_state *state);
static void leave_lock(gen_state *state);

/* caller.c */
static void hand_over(gen_state *state, const gen_peer *peer, int kind, const unsigned char *data, int bytes,
                      int64_t stamp_ns);

#endif
