/* The caller's side, which is Python under asyncio (load_tests/session/engine.py): state, Transports, what is handed over.
 *
 * Every function takes the lock. Checks, DTLS and data channels come to the caller through one ring of bytes and a bell
 * (an eventfd); it sends such datagrams through here, so that they share the session's line. */
#include "inside.h"

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

/* By so much this machine's clock is before that of the run; before it plays. */
void gen_ahead(gen_state *state, int64_t ahead_ns)
{
    state->ahead_ns = ahead_ns;
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

/* NULL, and errno says why: no memory, or a socket that cannot be waited for. */
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
    peer->reference = -1;
    peer->feedback_s = peer->report_s = peer->speak_s = peer->picture_s = peer->pace_s = peer->sound_s = INFINITY;
    set_due(peer);
    enter(state);
    if (state->peer_count == state->peer_room) {
        int room = state->peer_room ? 2 * state->peer_room : 64;
        gen_peer **peers = realloc(state->peers, sizeof *peers * (size_t)room);
        if (!peers) {
            leave_lock(state);
            free(peer);
            errno = ENOMEM;
            return NULL;
        }
        state->peers = peers;
        state->peer_room = room;
    }
    if (epoll_ctl(state->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        int why = errno;
        leave_lock(state);
        free(peer);
        errno = why;
        return NULL;
    }
    state->peers[state->peer_count++] = peer;
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
    drop_camera(peer);
    leave_lock(state);
    free(peer->arrivals);
    free(peer->sent_us);
    free(peer->sent_bytes);
    free(peer);
}

/* Contexts of libsrtp; NULL: none any more, and what still comes is let fall without a word. */
void gen_keys(gen_state *state, gen_peer *peer, void *receive, void *send)
{
    enter(state);
    peer->over = !receive && (peer->over || peer->receive);
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
