typedef int (*gen_srtp)(void *context, void *packet, int *bytes);

typedef struct {
    int64_t number;           /* extended sequence number */
    double missed_s;          /* when it was missed, when it was last asked for */
    double asked_s;
} gen_missing;

typedef struct {
    uint32_t ssrc;
    uint32_t rtx_ssrc;        /* 0: no repairs come */
    int32_t video;
    int32_t clock_hz;
    int64_t highest;          /* extended sequence number of the newest packet, -1: none came */
    int64_t base;             /* and of the first */
    int64_t packets;
    int64_t expected_told;
    int64_t packets_told;
    double first_s;
    double picture_s;         /* when the first whole picture was there */
    double last_frame_s;
    double frame_gap_s;       /* usual time between pictures */
    double transit;
    double jitter;            /* RFC 3550, in units of the clock */
    double report_s;          /* of the newest sender report, */
    double pli_s;
    uint32_t lsr;             /* and its middle bits */
    int32_t key_seen;         /* what came since can be decoded, as far as nothing is missing, */
    int32_t to_sample;
    int64_t key_number;       /* from this packet on */
    int64_t ends[64];         /* last packets of pictures that wait for others, ascending, */
    double end_s[64];         /* and when they came, or were missed */
    int32_t end_count;
    int32_t waits;            /* repairs that pictures waited for, */
    double waited_s;          /* when the last one did, */
    double wait_s;            /* how long they do, */
    double wait_off_s;        /* and how far that is off */
    double shown_s;           /* when a screen showed the newest picture */
    int32_t missing_count;
    gen_missing missing[512];
} gen_track;

typedef struct {
    int32_t width;
    int32_t height;
    int32_t frames_per_s;
    int32_t bitrate_bps;      /* 0: not sent */
    uint32_t ssrc;
    uint32_t rtx_ssrc;
    uint16_t seq;             /* of the newest packet */
    uint16_t rtx_seq;
    uint32_t timestamp;       /* where its RTP time begins */
    int32_t block_bytes;      /* header extensions; the transport-wide number is at 5 */
    int32_t rtx_block_bytes;
    unsigned char block[64];
    unsigned char rtx_block[64];
    const unsigned char *key; /* what frames begin with; the caller's, for as long as there is a camera */
    const unsigned char *still;
    int32_t key_bytes;
    int32_t still_bytes;
} gen_layer;

typedef struct {
    int64_t told;             /* packets that feedback told of, */
    int64_t arrived;          /* of these, arrived, */
    int64_t arrived_bytes;
    double delay_sum_us;      /* their delays, by the two clocks as they are, */
    double delay_least_us;
    int64_t delay_count;
    int64_t remb_bps;         /* newest, 0: none came */
    int64_t sent_bytes;       /* since the last look */
} gen_heard;

typedef struct {
    int64_t count;
    double total;
    double lowest;
    double highest;
    int64_t buckets[4352];    /* load_tests.report.histogram, in microseconds */
} gen_histogram;

typedef struct {
    int64_t counts[32];
    gen_histogram histograms[4];
} gen_figures;

#define GEN_VERSION 5         /* load_tests/session/engine.py names the one it fits */

#define GEN_RTP_IN 0
#define GEN_RTP_IN_BYTES 1
#define GEN_RTP_OUT 2
#define GEN_RTP_LOST 3
#define GEN_RTX_IN 4
#define GEN_RTX_OUT 5
#define GEN_NACK_OUT 6
#define GEN_PLI_OUT 7
#define GEN_PLI_IN 8
#define GEN_FRAMES_IN 9
#define GEN_FREEZES 10
#define GEN_TRACKS_RECEIVED 11
#define GEN_SEND_FAILED 12
#define GEN_LINE_LOST 13
#define GEN_RTP_STRANGE 14    /* of no track that was asked for */
#define GEN_RTP_FOREIGN 15    /* of another consult */
#define GEN_RTP_UNREADABLE 16
#define GEN_RTCP_UNREADABLE 17
#define GEN_HANDED_LOST 18    /* datagrams for the caller that it did not take in time */

#define GEN_AUDIO 0           /* kinds of tracks: */
#define GEN_VP8 1
#define GEN_VIDEO 2           /* of another codec: nothing is known of its key frames */

#define GEN_FORWARD 0
#define GEN_JITTER 1
#define GEN_FREEZE 2
#define GEN_LATE 3

#define GEN_DATAGRAM 1        /* what is handed to the caller: a datagram that is no media, */
#define GEN_CHANGED 2         /* or that something came for the first time */

typedef struct gen_state gen_state;
typedef struct gen_peer gen_peer;
typedef struct gen_line gen_line;

gen_state *gen_new(gen_srtp protect, gen_srtp unprotect, gen_srtp protect_rtcp, gen_srtp unprotect_rtcp);
void gen_free(gen_state *state);
int gen_bell(const gen_state *state);
void gen_ahead(gen_state *state, int64_t ahead_ns);
void gen_run(gen_state *state);
void gen_stop(gen_state *state);
void gen_turn(gen_state *state, double now_s, int64_t wall_ns);
void gen_figures_take(gen_state *state, gen_figures *figures);
int gen_take(gen_state *state, unsigned char *room, int room_bytes, int *peer, int *kind, int64_t *stamp_ns);

gen_line *gen_line_new(gen_state *state, double loss, double delay_s, double jitter_s, double up_bps, double down_bps,
                       uint64_t up_seed, uint64_t down_seed);
void gen_line_cut(gen_state *state, gen_line *line, int cut);
void gen_line_lose(gen_state *state, gen_line *line, double loss);
void gen_line_free(gen_state *state, gen_line *line);

gen_peer *gen_peer_new(gen_state *state, int id, int fd, gen_line *line, uint32_t consult, uint32_t own_ssrc);
void gen_peer_free(gen_state *state, gen_peer *peer);
void gen_keys(gen_state *state, gen_peer *peer, void *receive, void *send);
int gen_send(gen_state *state, gen_peer *peer, const unsigned char *data, int bytes);
gen_track *gen_track_new(gen_state *state, gen_peer *peer, uint32_t ssrc, uint32_t rtx_ssrc, int video, int clock_hz);
void gen_track_forget(gen_state *state, gen_peer *peer, gen_track *track);
void gen_listen(gen_state *state, gen_peer *peer, int timed, double feedback_s, double report_s);
void gen_camera(gen_state *state, gen_peer *peer, const gen_layer *layers, int count, const float *sizes, int size_count,
                int size_at, double due_s, int payload_type, int rtx_payload_type, int timed);
void gen_rates(gen_state *state, gen_peer *peer, const int32_t *bitrates_bps, int count);
void gen_microphone(gen_state *state, gen_peer *peer, const gen_layer *stream, double due_s, double phase_s,
                    int payload_type, int level_at, int timed);
void gen_speak(gen_state *state, gen_peer *peer, double report_s);
void gen_hear(gen_state *state, gen_peer *peer, gen_heard *heard);
