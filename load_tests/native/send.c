/* What a session sends: pictures in up to MAX_LAYERS layers, paced, sound, and repairs of both kinds of loss.
 *
 * The same steps as load_tests/session/sending.py. A packet's payload is made where it leaves, from a few numbers, so a
 * queue of pictures and the history for repairs (RFC 4588) hold no bytes of media. */
#include "inside.h"

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
    kept what = {.timestamp = one->timestamp, .frame = one->frame, .bytes = one->bytes, .first = one->first,
                 .key = one->key, .last = one->last};
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
    bytes = put_rtp(packet, peer->rtx_payload_type, what->last, ++way->is.rtx_seq, what->timestamp, way->is.rtx_ssrc,
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
    if (key) {
        size *= KEY_FACTOR;
    } else {
        size *= (double)peer->sizes[peer->size_at];
        peer->size_at = (peer->size_at + 1) % peer->size_count;
    }
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
            cut_picture(peer, i, timestamp + peer->layers[i].is.timestamp);
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
    bytes = put_rtp(packet, peer->audio_type, 0, ++way->is.seq,
                    (uint32_t)(peer->spoken * 960) + way->is.timestamp, way->is.ssrc, way->is.block,
                    way->is.block_bytes);
    memcpy(packet + bytes, state->filler, AUDIO_BYTES - TRAILER_BYTES);
    bytes += AUDIO_BYTES - TRAILER_BYTES;
    memcpy(packet + bytes, MARK, sizeof MARK);
    put32(packet + bytes + 4, peer->consult);
    put32(packet + bytes + 8, (uint32_t)((uint64_t)stamp_ns >> 32));
    put32(packet + bytes + 12, (uint32_t)stamp_ns);
    finish(state, peer, packet, bytes + TRAILER_BYTES, now_s);
    count(state, GEN_RTP_OUT, 1);
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

/* Nothing of what it showed until now is repaired or sent any more. */
static void drop_camera(gen_peer *peer)
{
    for (int i = 0; i < peer->layer_count; i++)
        free(peer->layers[i].history);
    free(peer->queue);
    peer->queue = NULL;
    peer->layer_count = peer->queue_head = peer->queue_count = 0;
    peer->picture_s = peer->pace_s = INFINITY;
}

void gen_camera(gen_state *state, gen_peer *peer, const gen_layer *layers, int count_, const float *sizes, int size_count,
                int size_at, double due_s, int payload_type, int rtx_payload_type, int timed)
{
    enter(state);
    drop_camera(peer);
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
            peer->layer_count = i + 1;
        }
        peer->sizes = sizes;
        peer->size_count = size_count;
        peer->size_at = size_at % size_count;
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
