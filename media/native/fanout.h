typedef int (*fan_protect)(void *context, void *packet, int *bytes);

typedef struct {
    int64_t number;       /* the lane's */
    uint32_t timestamp;
    uint32_t at;          /* offset of what follows the fixed header */
    uint16_t bytes;       /* of the packet, fixed header included */
    uint16_t word;        /* first two bytes of the header */
    uint16_t payload;     /* bytes of it, for sender reports */
    int16_t picture_at;   /* offset of a VP8 PictureID in the template, -1 without */
    uint16_t picture;
    uint16_t wide;        /* PictureID has 15 bits instead of 7 */
    int16_t tl0_at;       /* offset of TL0PICIDX, -1 without */
    uint16_t tl0;
    int16_t counter_at;   /* offset of the transport-wide number, -1 without */
    uint8_t unused[6];
} fan_row;

typedef struct {
    int64_t credit_bytes;     /* media.core.congestion.pacer: what may leave at once, */
    int64_t filled_us;        /* as of then, */
    int64_t bucket_bytes;     /* at the most so much, */
    int64_t rate_bps;         /* and it grows at this rate */
} fan_pace;

typedef struct {
    void *srtp;               /* NULL: nothing can be sent */
    uint32_t address_bytes;   /* 0: not reached by UDP, the caller sends */
    unsigned char address[28];
    int64_t *next;            /* extended transport-wide number of the next packet; NULL: not counted */
    int64_t *send_us;         /* rings of what was sent, by number modulo remembered (a power of two) */
    int64_t *sizes;
    int64_t remembered;
    int64_t waits;            /* something waits for its line: what leaves past that the caller counts */
    fan_pace *pace;           /* asked before a large burst of pictures; NULL: its line is not known */
} fan_leg;

typedef struct {
    fan_leg *leg;
    int64_t base;             /* least number for this viewer */
    uint32_t ssrc;
    uint32_t shift;           /* these four are added to what the rows say */
    uint32_t timestamp_shift;
    uint16_t picture_shift;
    uint16_t tl0_shift;
    uint32_t held;            /* not now: it waits for its line, or was given up */
    uint32_t unused;
    uint64_t packets;         /* sent since the caller last took these */
    uint64_t octets;
} fan_viewer;

typedef struct {
    fan_protect protect;
    int32_t viewer;           /* where the burst stands: index of the viewer, of its next row, and rows it has had */
    int32_t row;
    int32_t placed;
    int32_t start;            /* first row of the run that could not be sent */
    int64_t first;            /* transport-wide number of the viewer's first packet */
    int64_t now_us;
    int32_t bytes;            /* the run that could not be sent: all of it, the first packet, how many, their payload */
    int32_t segment;
    int32_t packets;
    int32_t octets;
    int32_t protect_errors;   /* this and the next grow until the caller takes them */
    int64_t sent;
    unsigned char buffer[30000];
} fan_state;

#define FAN_VERSION 11   /* media/aio/fanout.py names the one it fits */
#define FAN_RUN 16       /* packets in one send */
#define FAN_SENT 0
#define FAN_HELD -1

int fan_out(fan_state *state, int fd, const unsigned char *templates, const fan_row *rows, int row_count,
            fan_viewer **viewers, int count);
int fan_address(fan_leg *leg, const char *host, int port, int flow, int scope, int six);
