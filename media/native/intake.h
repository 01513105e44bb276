typedef int (*in_unprotect)(void *context, void *packet, int *bytes);
typedef unsigned char *(*in_hmac)(const void *digest, const void *key, int key_bytes, const unsigned char *data,
                                  size_t bytes, unsigned char *out, unsigned int *out_bytes);

typedef struct {
    fan_viewer **viewers;
    int32_t count;
    uint8_t send_time_id;     /* Router's ids of what is written per burst and per viewer, 0: not negotiated */
    uint8_t counter_id;
    uint16_t ids;             /* bit i: these viewers take the element with the Router's id i */
} in_group;

typedef struct {
    int8_t *still;            /* 0: somebody came or went since this was written down */
    in_group *groups;
    int32_t group_count;
    int32_t payload_type;     /* the Router's */
    int32_t id;               /* the caller's */
    int32_t paced;            /* large bursts ask each viewer's line; IN_ASK: they are the caller's */
} in_lane;

typedef struct {
    uint32_t ssrc;
    int32_t armed;            /* its next packet in order may be sent on from here */
    int64_t number;           /* the lane's, of that packet */
    in_lane *lane;
    uint16_t expected;        /* its sequence number */
    uint8_t payload_type;     /* the publisher's */
    uint8_t pictures;         /* VP8: counters of pictures in the payload */
    uint8_t plain;            /* what the log says of a packet is all that the caller asks of it */
    uint8_t ours[16];         /* header extensions that are passed on: the publisher's id to the Router's, 0: not */
} in_stream;

typedef struct {
    int64_t now_us;           /* one calm feedback: when it came, how many packets of how many bytes it tells of, */
    int64_t packets;
    int64_t size_bytes;
    int64_t newest_us;        /* when the last of them was sent and, by the viewer's clock, arrived, */
    int64_t latest_us;
    int64_t next;             /* what is sent next, */
    int64_t start;            /* and for the trend of the delay: its first number, the group it goes on with, its time */
    int64_t began_us;
    int64_t reference_us;
} in_calm;

typedef struct {
    int64_t open;             /* calm feedback is taken in here (media.core.congestion.account) */
    int64_t room;
    int64_t until_us;         /* what comes later is the last */
    int64_t ripe;             /* the caller was told that it should settle soon */
    int64_t count;
    int64_t delta_bytes;
    int64_t told_to;          /* where the line stands */
    int64_t reference;
    int64_t group_us;
    int64_t queue_us;
    int64_t least_us;
    int64_t current_us;
    int64_t previous_us;
    int64_t since_us;
    in_calm rows[16];
} in_account;

typedef struct {
    void *srtp;               /* NULL: no keys yet, or no more */
    in_account *account;      /* of the line to this viewer, NULL: the caller hears all feedback */
    unsigned char *deltas;    /* of the account's rows */
    int64_t *next;            /* what was sent to it, as in fan_leg; behind next: from where on it is plain */
    int64_t *send_us;
    int64_t *sizes;
    int64_t remembered;
    uint32_t speaker;         /* whose feedback the caller has heard, or will before anything else */
    int32_t id;               /* the caller's */
    int32_t stream_count;
    int32_t counter_id;       /* the publisher's of transport-wide numbers, 0: none */
    in_stream *streams[64];
} in_leg;

typedef struct in_address {
    struct in_address *next;
    in_leg *leg;
    uint32_t bucket;
    unsigned char name[28];   /* family, port, host and scope of a sockaddr, the rest zero */
    int64_t checked_us;       /* when a check was last answered here; the caller takes it */
    int32_t check_bytes;      /* a check that says this again is answered here; 0: none is */
    int32_t answer_bytes;
    int32_t key_bytes;
    unsigned char check[256];
    unsigned char answer[128]; /* its transaction and address as for transaction 0 */
    unsigned char key[64];
} in_address;

typedef struct {
    int32_t leg;
    int32_t at;               /* in the arena */
    int32_t end;
    int32_t kind;             /* IN_SENT, IN_UNSENT, IN_FEEDBACK or IN_ACCOUNT */
    int64_t now_us;
    int64_t number;           /* of a packet: the lane's, and what was read */
    uint32_t ssrc;
    uint32_t timestamp;
    int32_t payload_at;
    int32_t counter;          /* transport-wide number, -1 without */
    int16_t picture_at;       /* in the payload, -1 without */
    int16_t tl0_at;
    uint16_t picture;
    uint16_t tl0;
    uint16_t marker;
    uint8_t wide;
    uint8_t temporal;
    uint8_t key;              /* first packet of a key frame */
    uint8_t plain;            /* all of it is said here */
    uint8_t unused[2];
} in_entry;

typedef struct {
    in_lane *lane;
    int32_t entry;            /* of the log */
    int32_t payload_bytes;
    int32_t own_count;        /* header extensions that are passed on */
    int32_t own_at[8];        /* each: of its first byte (id and length) in the arena */
    uint8_t own_id[8];        /* the Router's */
} in_packet;

typedef struct {
    fan_state *fan;
    in_unprotect unprotect_rtp;
    in_unprotect unprotect_rtcp;
    in_hmac hmac;             /* NULL: no check is answered here */
    void *sha1;
    unsigned char *arena;
    int32_t arena_bytes;
    int32_t free_burst_bytes; /* above it each viewer's line is asked */
    int64_t settle_us;        /* how long what is in the log may wait, and feedback that is not calm */
    int64_t hear_us;
    int64_t due_us;           /* when the log wants to be booked */
    int64_t clock_ns;         /* the server's clock less CLOCK_MONOTONIC */
    int64_t fixed_us;         /* not 0: the server's clock stands there */
    int64_t now_us;           /* of the last read */
    in_address *buckets[1024];

    int32_t logged;           /* for the caller to book, in order */
    in_entry log[512];
    int32_t pending_count;    /* taken in, not yet sent; the log has them already */
    in_packet pending[64];

    int32_t reading;          /* a batch is under way */
    int32_t reads;
    int32_t handed;           /* in this batch something was handed back */
    int32_t unsent;           /* the log has something that the caller has to send */
    int32_t others;           /* something else was ready at the last look */
    int32_t position;         /* of the present read: in the arena, how far it was taken, its end, its segments */
    int32_t offset;
    int32_t end;
    int32_t segment;
    int32_t after;            /* to be handed back behind a burst that failed */

    int32_t leg;              /* what is handed back: from whom, -1 for an address not known, */
    int32_t at;               /* and where it lies */
    int32_t stop;
    int32_t name_bytes;
    unsigned char name[28];   /* of the last read */
    int32_t error;            /* errno of a read that failed */

    int32_t status;           /* the burst that failed: why (as fan_out), which lane and group, how many packets */
    int32_t lane;
    int32_t group;
    int32_t row_count;
    int32_t row_bytes;        /* of all rows */
    fan_row rows[64];
    unsigned char templates[65536];

    int64_t replayed;         /* refused by libsrtp; these grow until the caller takes them */
    int64_t refused;
    int64_t calm;             /* feedback that was taken in */
    int64_t checks;           /* answered */
} in_state;

#define IN_IDLE 0        /* the time is over, or something else is ready */
#define IN_DATAGRAM 1    /* handed back as it came */
#define IN_RTP 2         /* handed back decrypted */
#define IN_RTCP 3
#define IN_BATCH_END 4   /* what was handed back in this batch is to be sent now */
#define IN_SETTLE 5      /* the log wants to be booked */
#define IN_FAILED 6      /* a run that did not leave: as of fan_out, for the caller to go on with */
#define IN_ERROR 7       /* of a read */

#define IN_ASK 2

#define IN_SENT 1
#define IN_UNSENT 2
#define IN_FEEDBACK 3
#define IN_ACCOUNT 4     /* the account of that leg will soon be full */
#define IN_REPORT 5      /* receiver reports */

#define IN_ROWS 16       /* as in media.core.congestion, where these are told */
#define IN_DELTA_BYTES 4096
#define IN_GROUP_US 30000
#define IN_RIPE_US 200000
#define IN_CALM_US 8000
#define IN_JUMP_US 3000000
#define IN_BASE_SPAN_US 20000000
#define IN_REMEMBERED_US 2000000
#define IN_TICK_US 250
#define IN_REFERENCE_US 64000

int in_serve(in_state *state, int epoll_fd, int fd, int send_fd, int timeout_ms);
void in_learn(in_state *state, in_address *address, in_leg *leg, const char *host, int port, int scope, int six);
void in_forget(in_state *state, in_address *address);
int in_name(const in_state *state, char *host, int room, int *port, uint32_t *flow, uint32_t *scope);
