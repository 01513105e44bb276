/* The thread: one look a millisecond at everything, and the lock it shares with the caller.
 *
 * Arrivals carry the kernel's time, so nothing is measured later than it came, and many are taken in one system call. The
 * thread holds the lock while it works and gives it away between two Transports when somebody asks; nothing waits in the
 * slots while somebody else has it. A Transport may be closed at such a moment: none is touched afterwards that was not
 * looked up again. */
#include "inside.h"

/* One datagram at this end of the line. */
static void take(gen_state *state, gen_peer *peer, const unsigned char *data, int bytes, int64_t stamp_ns, double now_s)
{
    if (bytes < 1)
        return;
    if (data[0] < 128 || data[0] > 191) {
        hand_over(state, peer, GEN_DATAGRAM, data, bytes, stamp_ns);
    } else if (peer->over) {
        return;
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
    _Alignas(struct cmsghdr) unsigned char control[READS][128];
    int many, rounds = 0;
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
                    stamp_ns = (int64_t)stamp.tv_sec * 1000000000 + stamp.tv_nsec - state->ahead_ns;
                }
            }
            if (segment > 0)
                arrive(state, peer, state->reads[i], bytes, segment, stamp_ns, now_s);
        }
    } while (many == READS && ++rounds < ROUNDS); /* the rest at the next look: nobody is kept waiting by a flood */
}

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
            if (peer->tracks[i]->missing_count || (peer->tracks[i]->video && !peer->tracks[i]->key_seen))
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
