/* The emulated lines, and setting out: what a datagram meets between a Transport and its socket.
 *
 * A line loses, queues, delays and scatters as load_tests/plan/line.py says, which is its twin in tests. What passes at
 * once is laid out in slots, of one Transport at a time, and leaves in one system call; what is late waits as a parcel.
 * Parcels of a Transport go with it, those of a line with the line. */
#include "inside.h"

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

static void set_perfect(gen_line *line)
{
    line->perfect = !line->cut && line->loss <= 0 && line->delay_s <= 0 && line->jitter_s <= 0 &&
                    line->up.rate_bps <= 0 && line->down.rate_bps <= 0;
}

void gen_line_cut(gen_state *state, gen_line *line, int cut)
{
    enter(state);
    line->cut = cut;
    set_perfect(line);
    leave_lock(state);
}

/* From now on the line loses this share, whatever it lost before. */
void gen_line_lose(gen_state *state, gen_line *line, double loss)
{
    enter(state);
    line->loss = loss;
    set_perfect(line);
    leave_lock(state);
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
