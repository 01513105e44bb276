/* Datagrams in, with the GIL released: read in batches, decrypt in place, and send on at once what is the next packet
 * of a stream that the caller has armed; what is not so is handed back, decrypted, for the caller's one way.
 *
 * It predicts and does not decide: an armed stream's next packet in order goes, under the number the caller
 * said, to the viewers it wrote down (fan_out). Every packet that was sent so stands in the log, whole, and the caller
 * books it with the code that would have sent it, before it does anything else. A gap, a duplicate, padding, another
 * payload type, a viewer who waits or is held, a burst that some line has no credit for: all that is handed back.
 * Feedback that can wait a few milliseconds is logged too, so that much of it is read at once; what says nothing new
 * is taken into the account of its line. A connectivity check that says what the last one said is answered.
 *
 * Nothing is allocated; what the tables point to is the caller's. One file, so that the compiler sees the whole way. */
#include <sys/epoll.h>
#include <time.h>

#include "intake.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define IN_LOG (int)(sizeof((in_state *)0)->log / sizeof(in_entry))
#define IN_PENDING (int)(sizeof((in_state *)0)->pending / sizeof(in_packet))
#define IN_BUCKETS 1024
#define IN_READ_BYTES 65536
#define IN_READS 64
#define IN_MAX_DATAGRAM 1500
#define IN_MIN_SRTP 22
#define IN_MAX_OWN 8
#define IN_ONE_BYTE_PROFILE 0xBEDE
#define IN_RECEIVER_REPORT 201
#define IN_SDES 202
#define IN_FEEDBACK_PACKET 205
#define IN_TRANSPORT_CC 15
#define IN_INTEGRITY_BYTES 20
#define IN_CHECK_TAIL 32 /* MESSAGE-INTEGRITY and FINGERPRINT */

static uint32_t get16(const unsigned char *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static uint32_t get32(const unsigned char *at)
{
    return get16(at) << 16 | get16(at + 2);
}

static int64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t server_us(const in_state *state)
{
    return state->fixed_us ? state->fixed_us : (monotonic_ns() + state->clock_ns) / 1000;
}

/* ---------------------------------------------------------------- addresses */

static void name_key(unsigned char *key, const unsigned char *name)
{
    struct sockaddr_in6 six;
    struct sockaddr_in four;
    memset(key, 0, 28);
    memcpy(&six, name, sizeof six);
    memcpy(&four, name, sizeof four);
    if (six.sin6_family == AF_INET6) {
        struct sockaddr_in6 bare = {.sin6_family = AF_INET6, .sin6_port = six.sin6_port, .sin6_addr = six.sin6_addr};
        bare.sin6_scope_id = six.sin6_scope_id;
        memcpy(key, &bare, sizeof bare);
    } else {
        struct sockaddr_in bare = {.sin_family = AF_INET, .sin_port = four.sin_port, .sin_addr = four.sin_addr};
        memcpy(key, &bare, sizeof bare);
    }
}

static uint32_t bucket_of(const unsigned char *key)
{
    uint32_t hash = 2166136261u;
    for (int i = 0; i < 28; i++)
        hash = (hash ^ key[i]) * 16777619u;
    return (hash ^ hash >> 15) % IN_BUCKETS;
}

static in_address *address_of(const in_state *state)
{
    unsigned char key[28];
    name_key(key, state->name);
    for (in_address *at = state->buckets[bucket_of(key)]; at; at = at->next)
        if (memcmp(at->name, key, sizeof key) == 0)
            return at;
    return NULL;
}

/* What comes from there is this leg's. */
void in_learn(in_state *state, in_address *address, in_leg *leg, const char *host, int port, int scope, int six)
{
    fan_leg there;
    unsigned char room[28] = {0};
    if (fan_address(&there, host, port, 0, scope, six) != 0)
        return;
    memcpy(room, there.address, there.address_bytes);
    name_key(address->name, room);
    address->leg = leg;
    address->bucket = bucket_of(address->name);
    address->next = state->buckets[address->bucket];
    state->buckets[address->bucket] = address;
}

void in_forget(in_state *state, in_address *address)
{
    for (in_address **at = &state->buckets[address->bucket]; *at; at = &(*at)->next)
        if (*at == address) {
            *at = address->next;
            return;
        }
}

/* The last read's address as text; the family. */
int in_name(const in_state *state, char *host, int room, int *port, uint32_t *flow, uint32_t *scope)
{
    struct sockaddr_in6 six;
    struct sockaddr_in four;
    memcpy(&six, state->name, sizeof six);
    memcpy(&four, state->name, sizeof four);
    if (six.sin6_family == AF_INET6) {
        inet_ntop(AF_INET6, &six.sin6_addr, host, (socklen_t)room);
        *port = ntohs(six.sin6_port);
        *flow = ntohl(six.sin6_flowinfo);
        *scope = six.sin6_scope_id;
        return 6;
    }
    inet_ntop(AF_INET, &four.sin_addr, host, (socklen_t)room);
    *port = ntohs(four.sin_port);
    return 4;
}

/* ---------------------------------------------------------------- checks (RFC 8489, RFC 7675) */

/* CRC-32 as FINGERPRINT has it (section 14.7). */
static uint32_t fingerprint(const unsigned char *data, int bytes)
{
    uint32_t crc = 0xFFFFFFFF;
    for (int i = 0; i < bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xEDB88320 & (0 - (crc & 1)));
    }
    return ~crc ^ 0x5354554E;
}

/* MESSAGE-INTEGRITY of a message that ends with it and FINGERPRINT; its length field counts the first of them only. */
static int integrity(const in_state *state, const in_address *from, unsigned char *message, int bytes,
                     unsigned char *digest)
{
    unsigned int digest_bytes = 0;
    int made;
    put16(message + 2, (uint32_t)bytes - 28);
    made = state->hmac(state->sha1, from->key, from->key_bytes, message, (size_t)bytes - IN_CHECK_TAIL, digest,
                       &digest_bytes) != NULL;
    put16(message + 2, (uint32_t)bytes - 20);
    return made && digest_bytes == IN_INTEGRITY_BYTES;
}

/* Answer a check that differs from the last one in nothing but its transaction; 0: it is for the caller. */
static int answer_check(in_state *state, in_address *from, const unsigned char *data, int bytes, int send_fd)
{
    unsigned char message[sizeof from->check], digest[64], differs = 0;
    struct iovec part = {message, (size_t)from->answer_bytes};
    struct msghdr out = {.msg_name = state->name, .msg_namelen = (socklen_t)state->name_bytes, .msg_iov = &part,
                         .msg_iovlen = 1};
    int answer_bytes = from->answer_bytes;
    if (!from->check_bytes || bytes != from->check_bytes || !state->hmac || send_fd < 0 ||
        memcmp(data, from->check, 8) != 0 || memcmp(data + 20, from->check + 20, (size_t)bytes - 48) != 0 ||
        memcmp(data + bytes - 8, from->check + bytes - 8, 4) != 0 ||
        get32(data + bytes - 4) != fingerprint(data, bytes - 8))
        return 0;
    memcpy(message, data, (size_t)bytes);
    if (!integrity(state, from, message, bytes, digest))
        return 0;
    for (int i = 0; i < IN_INTEGRITY_BYTES; i++)
        differs |= digest[i] ^ data[bytes - 28 + i];
    if (differs)
        return 0;
    memcpy(message, from->answer, (size_t)answer_bytes);
    memcpy(message + 8, data + 8, 12);
    if (message[25] == 2) /* XOR-MAPPED-ADDRESS comes first; an IPv6 address is mixed with the transaction */
        for (int i = 0; i < 12; i++)
            message[32 + i] ^= data[8 + i];
    if (!integrity(state, from, message, answer_bytes, message + answer_bytes - 28))
        return 0;
    put32(message + answer_bytes - 4, fingerprint(message, answer_bytes - 8));
    if (sendmsg(send_fd, &out, MSG_DONTWAIT) < 0)
        return 0;
    from->checked_us = state->now_us;
    state->checks++;
    return 1;
}

/* ---------------------------------------------------------------- sending on */

/* Header extensions of a packet as a group gets them (media.core.templates.extension_block); their length. */
static int put_block(const in_state *state, unsigned char *block, const in_packet *packet, const in_group *group,
                     int64_t now_us, int *counter_at)
{
    int bytes = 4;
    *counter_at = -1;
    if (group->send_time_id) {
        uint64_t time = ((uint64_t)(now_us / 1000000) << 18) + ((uint64_t)(now_us % 1000000) << 18) / 1000000;
        block[bytes] = (unsigned char)(group->send_time_id << 4 | 2);
        block[bytes + 1] = (unsigned char)(time >> 16);
        put16(block + bytes + 2, (uint32_t)time);
        bytes += 4;
    }
    if (group->counter_id) {
        block[bytes] = (unsigned char)(group->counter_id << 4 | 1);
        put16(block + bytes + 1, 0);
        *counter_at = HEADER_BYTES + bytes + 1;
        bytes += 3;
    }
    for (int i = 0; i < packet->own_count; i++) {
        const unsigned char *own = state->arena + packet->own_at[i];
        int length = (own[0] & 15) + 1;
        if (!(group->ids >> packet->own_id[i] & 1))
            continue;
        block[bytes] = (unsigned char)(packet->own_id[i] << 4 | (own[0] & 15));
        memcpy(block + bytes + 1, own + 1, (size_t)length);
        bytes += 1 + length;
    }
    if (bytes == 4)
        return 0;
    while (bytes & 3)
        block[bytes++] = 0;
    put16(block, IN_ONE_BYTE_PROFILE);
    put16(block + 2, (uint32_t)(bytes - 4) >> 2);
    return bytes;
}

/* The burst of one lane as a group gets it: rows and templates; its bytes, or -1 where it is too long for here. */
static int lay_out(in_state *state, const in_lane *lane, const in_group *group, int64_t now_us)
{
    int at = 0, total = 0;
    state->row_count = 0;
    for (int i = 0; i < state->pending_count; i++) {
        const in_packet *packet = state->pending + i;
        const in_entry *entry = state->log + packet->entry;
        fan_row *row = state->rows + state->row_count;
        unsigned char block[4 + 4 + 3 + IN_MAX_OWN * 17 + 3];
        int counter_at, ahead, extensions;
        if (packet->lane != lane)
            continue;
        extensions = put_block(state, block, packet, group, now_us, &counter_at);
        ahead = HEADER_BYTES + extensions;
        total += ahead + packet->payload_bytes;
        if (total > (int)sizeof state->templates)
            return -1;
        memcpy(state->templates + at, block, (size_t)extensions);
        memcpy(state->templates + at + extensions, state->arena + entry->payload_at, (size_t)packet->payload_bytes);
        *row = (fan_row){.number = entry->number, .timestamp = entry->timestamp, .at = (uint32_t)at};
        row->bytes = (uint16_t)(ahead + packet->payload_bytes);
        row->word = (uint16_t)((extensions ? 0x9000 : 0x8000) | entry->marker | lane->payload_type);
        row->payload = (uint16_t)packet->payload_bytes;
        row->picture_at = row->tl0_at = -1;
        if (entry->picture_at >= 0) {
            row->picture_at = (int16_t)(entry->picture_at + ahead);
            row->picture = entry->picture;
            row->wide = entry->wide;
            if (entry->tl0_at >= 0)
                row->tl0_at = (int16_t)(entry->tl0_at + ahead);
            row->tl0 = entry->tl0;
        }
        row->counter_at = (int16_t)counter_at;
        at += row->bytes - HEADER_BYTES;
        state->row_count++;
    }
    state->row_bytes = total;
    return total;
}

/* The purse of a line as it is by now (media.core.congestion.pacer.Pacer._fill). */
static fan_pace filled(const fan_pace *pace, int64_t now_us)
{
    fan_pace now = *pace;
    int64_t elapsed_us = now_us - pace->filled_us < 1000000 ? now_us - pace->filled_us : 1000000;
    int64_t gained = elapsed_us * pace->rate_bps / 8000000;
    if (gained > 0) {
        now.credit_bytes += gained;
        if (now.credit_bytes > pace->bucket_bytes)
            now.credit_bytes = pace->bucket_bytes;
        now.filled_us = now_us;
    }
    return now;
}

static int affords(const fan_pace *pace, int64_t bytes, int64_t now_us)
{
    return !pace || bytes <= pace->credit_bytes || bytes <= filled(pace, now_us).credit_bytes;
}

/* Every line of a group takes a large burst in one piece. */
static int all_afford(const in_group *group, int64_t bytes, int64_t now_us)
{
    for (int v = 0; v < group->count; v++)
        if (!affords(group->viewers[v]->leg->pace, bytes, now_us))
            return 0;
    return 1;
}

/* It is paid for (Pacer.passes). */
static void pay(const in_group *group, int64_t bytes, int64_t now_us)
{
    for (int v = 0; v < group->count; v++) {
        fan_pace *pace = group->viewers[v]->leg->pace;
        if (!pace)
            continue;
        if (bytes > pace->credit_bytes)
            *pace = filled(pace, now_us);
        pace->credit_bytes -= bytes;
    }
}

/* Everybody of the lane can be sent this burst from here. */
static int may_send(in_state *state, const in_lane *lane, int64_t now_us)
{
    int bytes;
    for (int g = 0; g < lane->group_count; g++) {
        for (int v = 0; v < lane->groups[g].count; v++)
            if (lane->groups[g].viewers[v]->held || lane->groups[g].viewers[v]->leg->waits)
                return 0;
        bytes = lay_out(state, lane, lane->groups + g, now_us);
        if (bytes < 0)
            return 0;
        if (lane->paced && bytes > state->free_burst_bytes &&
            (lane->paced == IN_ASK || !all_afford(lane->groups + g, bytes, now_us)))
            return 0;
    }
    return 1;
}

/* The caller sends what is pending of a lane, or of all. */
static void leave_unsent(in_state *state, const in_lane *lane)
{
    for (int i = 0; i < state->pending_count; i++)
        if (state->pending[i].lane && (!lane || state->pending[i].lane == lane)) {
            state->log[state->pending[i].entry].kind = IN_UNSENT;
            state->pending[i].lane = NULL;
            state->unsent = 1;
        }
}

static void drop_pending(in_state *state, const in_lane *lane)
{
    for (int i = 0; i < state->pending_count; i++)
        if (state->pending[i].lane == lane)
            state->pending[i].lane = NULL;
}

/* Send what is pending. 0, or IN_FAILED: then the rest is left to the caller. */
static int flush(in_state *state, int send_fd)
{
    fan_state *fan = state->fan;
    int64_t now_us;
    if (!state->pending_count)
        return 0;
    now_us = server_us(state);
    fan->now_us = now_us;
    for (int i = 0; i < state->pending_count; i++) {
        in_lane *lane = state->pending[i].lane;
        if (!lane)
            continue;
        if (send_fd < 0 || !may_send(state, lane, now_us)) {
            leave_unsent(state, lane);
            continue;
        }
        for (int g = 0; g < lane->group_count; g++) {
            const in_group *group = lane->groups + g;
            if (lane->group_count > 1)
                lay_out(state, lane, group, now_us);
            if (lane->paced && state->row_bytes > state->free_burst_bytes)
                pay(group, state->row_bytes, now_us);
            fan->viewer = fan->row = fan->placed = 0;
            state->status = fan_out(fan, send_fd, state->templates, state->rows, state->row_count, group->viewers,
                                    group->count);
            if (state->status != FAN_SENT) {
                state->lane = lane->id;
                state->group = g;
                drop_pending(state, lane);
                leave_unsent(state, NULL);
                state->pending_count = 0;
                return IN_FAILED;
            }
        }
        drop_pending(state, lane);
    }
    state->pending_count = 0;
    return 0;
}

/* ---------------------------------------------------------------- one packet */

/* What media.core.shape._vp8 reads of a payload. */
static void read_vp8(const unsigned char *data, int bytes, in_entry *entry)
{
    int at = 1, picture_at, wide = 0, tl0_at = -1, temporal = 0, first, flags = 0;
    if (bytes < 2)
        return;
    first = (data[0] & 0x17) == 0x10;
    if (data[0] & 0x80) {
        flags = data[at++];
        picture_at = at;
        if (flags & 0x80) {
            if (at >= bytes)
                return;
            wide = (data[at] & 0x80) != 0;
            at += wide ? 2 : 1;
            if (at > bytes)
                return;
        }
        if (flags & 0x40) {
            tl0_at = at < bytes ? at : -1;
            at++;
        }
        if (flags & 0x30) {
            if (flags & 0x20 && at < bytes)
                temporal = data[at] >> 6;
            at++;
        }
        if (flags & 0x80) {
            entry->picture_at = (int16_t)picture_at;
            entry->wide = (uint8_t)wide;
            entry->picture = (uint16_t)(wide ? get16(data + picture_at) & 0x7FFF : data[picture_at]);
            entry->tl0_at = (int16_t)tl0_at;
            entry->tl0 = tl0_at >= 0 ? data[tl0_at] : 0xFF;
        }
    }
    entry->temporal = (uint8_t)temporal;
    entry->key = first && at < bytes && !(data[at] & 1);
}

/* Header extensions in one-byte form: those that are passed on, and the transport-wide number; 0: it is not that simple. */
static int read_elements(const in_state *state, const in_leg *leg, const in_stream *stream, int position, int stop,
                         in_packet *packet, in_entry *entry)
{
    const unsigned char *arena = state->arena;
    while (position < stop) {
        int head = arena[position], length = (head & 15) + 1, ours;
        if (head == 0) {
            position++;
            continue;
        }
        if (head >> 4 == 0 || head >> 4 == 15)
            return 1;
        if (position + 1 + length > stop)
            return 0;
        if (head >> 4 == leg->counter_id && length == 2) {
            if (entry->counter >= 0)
                entry->plain = 0;
            entry->counter = (int32_t)get16(arena + position + 1);
        }
        ours = stream->ours[head >> 4];
        if (ours) {
            entry->plain = 0;
            if (packet->own_count == IN_MAX_OWN)
                return 0;
            packet->own_at[packet->own_count] = position;
            packet->own_id[packet->own_count++] = (uint8_t)ours;
        }
        position += 1 + length;
    }
    return 1;
}

/* A decrypted RTP packet that may be sent on from here becomes pending; 0: it is for the caller. */
static int take_media(in_state *state, in_leg *leg, int at, int end)
{
    const unsigned char *arena = state->arena, *data = arena + at;
    in_packet *packet = state->pending + state->pending_count;
    in_entry *entry = state->log + state->logged;
    in_stream *stream = NULL;
    uint32_t ssrc;
    int position, profile, stop;
    if (end - at < HEADER_BYTES)
        return 0;
    ssrc = get32(data + 8);
    for (int i = 0; i < leg->stream_count && !stream; i++)
        if (leg->streams[i]->ssrc == ssrc)
            stream = leg->streams[i];
    if (!stream || !stream->armed)
        return 0;
    position = at + HEADER_BYTES + 4 * (data[0] & 15);
    if (!*stream->lane->still || get16(data + 2) != stream->expected || (data[1] & 0x7F) != stream->payload_type ||
        data[0] & 0x20 || position + 4 > end)
        goto not_so;
    packet->own_count = 0;
    *entry = (in_entry){.ssrc = ssrc, .counter = -1, .picture_at = -1, .tl0_at = -1, .plain = stream->plain};
    if (data[0] & 0x10) {
        profile = (int)get16(arena + position);
        stop = position + 4 + 4 * (int)get16(arena + position + 2);
        if (profile != IN_ONE_BYTE_PROFILE || stop > end ||
            !read_elements(state, leg, stream, position + 4, stop, packet, entry))
            goto not_so;
        position = stop;
    }
    if (position >= end)
        goto not_so;
    packet->lane = stream->lane;
    packet->payload_bytes = end - position;
    packet->entry = state->logged;
    entry->number = stream->number++;
    entry->timestamp = get32(data + 4);
    entry->marker = (uint16_t)(data[1] & 0x80);
    entry->payload_at = position;
    if (stream->pictures)
        read_vp8(arena + position, end - position, entry);
    stream->expected++;
    state->pending_count++;
    return 1;
not_so:
    stream->armed = 0; /* the caller takes it from here, and arms it again */
    return 0;
}

/* One transport-wide feedback and nothing else (media.core.rtcp.read_lone_feedback). */
static int is_feedback(const unsigned char *data, int bytes)
{
    if (bytes < 12 || data[1] != IN_FEEDBACK_PACKET || (int)get16(data + 2) * 4 + 4 != bytes)
        return 0;
    return data[0] == (0x80 | IN_TRANSPORT_CC) ||
           (data[0] == (0xA0 | IN_TRANSPORT_CC) && data[bytes - 1] && data[bytes - 1] <= bytes - 12);
}

/* Receiver reports, and who sends them: nothing is asked for that must not wait. */
static int is_report(const unsigned char *data, int bytes)
{
    int at = 0;
    while (at + 4 <= bytes && (data[at + 1] == IN_RECEIVER_REPORT || data[at + 1] == IN_SDES))
        at += 4 + 4 * (int)get16(data + at + 2);
    return at == bytes;
}

/* Deltas of a feedback that says: all of this has come, in small steps (media.core.twcc.read_whole); NULL: another. */
static const unsigned char *whole_deltas(const unsigned char *fci, int length)
{
    int count, position = 10, left, chunk;
    if (length < 10)
        return NULL;
    count = (int)get16(fci + 2);
    chunk = (int)get16(fci + 8);
    if (chunk >> 13 != 1 || (chunk & 0x1FFF) < count) {
        position = 8;
        for (left = count; left > 0;) {
            if (position + 2 > length)
                return NULL;
            chunk = (int)get16(fci + position);
            position += 2;
            if (chunk >> 13 == 1 && chunk & 0x1FFF)
                left -= chunk & 0x1FFF;
            else if (chunk >> 14 == 2 && (chunk & 0x3FFF) == (0x3FFF & ~((1 << (left < 14 ? 14 - left : 0)) - 1)))
                left -= 14;
            else if (chunk >> 14 == 3 && (chunk & 0x3FFF) == (0x1555 & ~((1 << (left < 7 ? 2 * (7 - left) : 0)) - 1)))
                left -= 7;
            else
                return NULL;
        }
    }
    return count && length >= position + count ? fci + position : NULL;
}

/* Extended number of the first packet of a feedback when all of it goes on where the last one ended; -1: it does not
 * (media.core.congestion.sent.SentPackets.follows). */
static int64_t follows(const in_leg *leg, uint32_t base, int count)
{
    int64_t start = leg->account->told_to, upcoming = leg->next[0], mask = leg->remembered - 1, slot = start & mask;
    if ((uint32_t)(start & 0xFFFF) != base || start < leg->next[1] || start + count > upcoming ||
        slot + count > leg->remembered || upcoming - start > leg->remembered ||
        leg->send_us[slot] < leg->send_us[(upcoming - 1) & mask] - IN_REMEMBERED_US)
        return -1;
    return start;
}

/* First place behind what was sent at or before a time, as bisect_right. */
static int sent_after(const int64_t *times, int64_t time_us, int low, int high)
{
    while (low < high) {
        int middle = (low + high) / 2;
        if (time_us < times[middle])
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Delay above the least (media.core.congestion.delay.BaseDelay.above). */
static void take_delay(in_account *account, int64_t delay_us, int64_t now_us)
{
    if (now_us - account->since_us > IN_BASE_SPAN_US) {
        account->previous_us = account->current_us;
        account->current_us = delay_us;
        account->since_us = now_us;
    } else if (delay_us < account->current_us) {
        account->current_us = delay_us;
    }
    account->least_us = account->current_us < account->previous_us ? account->current_us : account->previous_us;
    account->queue_us = delay_us - account->least_us;
}

/* Of each group the first packet is hardly delayed (media.core.congestion.quiet.Spell.takes): the line moves on, and when
 * the last packet arrived is told; else 0. */
static int64_t move_on(in_account *line, const in_leg *leg, const unsigned char *deltas, int count, int64_t reference_us)
{
    const int64_t *times = leg->send_us + (line->told_to & (leg->remembered - 1));
    int64_t lowest_us = line->least_us - IN_CALM_US, highest_us = line->least_us + IN_CALM_US, ticks = 0;
    int position = 0, begins;
    while ((begins = sent_after(times, line->group_us + IN_GROUP_US, position, count)) < count) {
        int64_t delay_us;
        for (; position <= begins; position++)
            ticks += deltas[position];
        delay_us = reference_us + ticks * IN_TICK_US - times[begins];
        if (delay_us < lowest_us || delay_us > highest_us || times[begins] - line->group_us > IN_JUMP_US)
            return 0;
        take_delay(line, delay_us, times[begins]);
        line->group_us = times[begins];
    }
    for (; position < count; position++)
        ticks += deltas[position];
    return reference_us + ticks * IN_TICK_US;
}

/* Take in a calm feedback; 0: it is not so, and from now on the caller hears what this viewer says. */
static int take_calm(in_leg *leg, const unsigned char *data, int bytes, int64_t now_us)
{
    in_account *account = leg->account, line;
    const unsigned char *fci = data + 12, *deltas;
    int64_t start, began_us, slot;
    in_calm *row;
    int count, first, last;
    if (!account || !account->open || !leg->next)
        return 0;
    account->open = 0;
    deltas = whole_deltas(fci, bytes - 12 - (data[0] & 0x20 ? data[bytes - 1] : 0));
    if (!deltas || get32(data + 4) != leg->speaker)
        return 0;
    count = (int)get16(fci + 2);
    start = follows(leg, get16(fci), count);
    if (start < 0 || account->delta_bytes + count > IN_DELTA_BYTES)
        return 0;
    line = *account;
    line.reference += (((int64_t)(get32(fci + 4) >> 8) - line.reference + 0x800000) & 0xFFFFFF) - 0x800000;
    began_us = line.group_us;
    row = account->rows + account->count;
    row->latest_us = move_on(&line, leg, deltas, count, line.reference * IN_REFERENCE_US);
    if (!row->latest_us)
        return 0;
    slot = start & (leg->remembered - 1);
    row->size_bytes = 0;
    for (first = (int)slot, last = first + count; first < last; first++)
        row->size_bytes += leg->sizes[first];
    row->now_us = now_us;
    row->packets = count;
    row->newest_us = leg->send_us[last - 1];
    row->next = leg->next[0];
    row->start = start;
    row->began_us = began_us;
    row->reference_us = line.reference * IN_REFERENCE_US;
    memcpy(leg->deltas + account->delta_bytes, deltas, (size_t)count);
    account->delta_bytes += count;
    account->count++;
    account->told_to = start + count;
    account->reference = line.reference;
    account->group_us = line.group_us;
    account->queue_us = line.queue_us;
    account->least_us = line.least_us;
    account->current_us = line.current_us;
    account->previous_us = line.previous_us;
    account->since_us = line.since_us;
    account->open = account->count < account->room && now_us < account->until_us;
    return 1;
}

/* It will be full, or too old, before the caller has come by of its own accord. */
static int is_ripe(const in_account *account, int64_t now_us)
{
    return account->count >= account->room - 2 || account->delta_bytes > IN_DELTA_BYTES / 2 ||
           now_us >= account->until_us - IN_RIPE_US;
}

static void note(in_state *state, const in_leg *leg, int at, int end, int kind)
{
    in_entry *entry = state->log + state->logged;
    int64_t due_us = state->now_us + (kind == IN_FEEDBACK ? state->hear_us : state->settle_us);
    if (!state->logged || due_us < state->due_us)
        state->due_us = due_us;
    state->logged++;
    entry->leg = leg->id;
    entry->at = at;
    entry->end = end;
    entry->kind = kind;
    entry->now_us = state->now_us;
}

/* The next datagram of the present read: 0, or what is handed back. */
static int take(in_state *state, int send_fd)
{
    int at = state->offset, left = state->end - at;
    int bytes = left < state->segment ? left : state->segment;
    int kind = IN_DATAGRAM, code;
    unsigned char *data = state->arena + at;
    in_address *from = address_of(state);
    in_leg *leg = from ? from->leg : NULL;
    state->offset += bytes;
    state->leg = leg ? leg->id : -1;
    if (leg && leg->srtp && bytes >= IN_MIN_SRTP && bytes <= IN_MAX_DATAGRAM && data[0] >= 128 && data[0] < 192) {
        int is_rtcp = data[1] >= 192 && data[1] <= 223;
        int failed = (is_rtcp ? state->unprotect_rtcp : state->unprotect_rtp)(leg->srtp, data, &bytes);
        if (failed) {
            if (failed == 9 || failed == 10)
                state->replayed++;
            else
                state->refused++;
            return 0;
        }
        if (is_rtcp && is_feedback(data, bytes)) {
            if (take_calm(leg, data, bytes, state->now_us)) {
                state->calm++;
                if (!leg->account->ripe && is_ripe(leg->account, state->now_us)) {
                    leg->account->ripe = 1;
                    note(state, leg, at, at + bytes, IN_ACCOUNT);
                }
                return 0;
            }
            leg->speaker = get32(data + 4);
            note(state, leg, at, at + bytes, IN_FEEDBACK);
            return 0;
        }
        if (is_rtcp && is_report(data, bytes)) {
            note(state, leg, at, at + bytes, IN_REPORT);
            return 0;
        }
        if (!is_rtcp && take_media(state, leg, at, at + bytes)) {
            note(state, leg, at, at + bytes, IN_SENT);
            return 0;
        }
        kind = is_rtcp ? IN_RTCP : IN_RTP;
    } else if (from && bytes && data[0] == 0 && answer_check(state, from, data, bytes, send_fd)) {
        return 0;
    }
    state->at = at;
    state->stop = at + bytes;
    state->handed = 1;
    code = flush(state, send_fd);
    if (!code)
        return kind;
    state->after = kind;
    return code;
}

/* ---------------------------------------------------------------- the socket */

/* Read once more: 1; 0 when there is nothing, IN_ERROR. */
static int receive(in_state *state, int fd)
{
    struct iovec part;
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_name = state->name, .msg_namelen = sizeof state->name, .msg_iov = &part,
                             .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t bytes;
    state->position = state->logged ? (state->end + 15) & ~15 : 0;
    part = (struct iovec){state->arena + state->position, IN_READ_BYTES};
    do
        bytes = recvmsg(fd, &message, MSG_DONTWAIT);
    while (bytes < 0 && errno == EINTR);
    if (bytes < 0) {
        state->error = errno;
        return state->error == EAGAIN || state->error == EWOULDBLOCK ? 0 : IN_ERROR;
    }
    state->now_us = server_us(state);
    state->offset = state->position;
    state->end = state->position + (int)bytes;
    state->segment = (int)bytes;
    state->name_bytes = (int)message.msg_namelen;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at; at = CMSG_NXTHDR(&message, at))
        if (at->cmsg_level == IPPROTO_UDP && at->cmsg_type == UDP_GRO) {
            int segment;
            memcpy(&segment, CMSG_DATA(at), sizeof segment);
            if (segment > 0)
                state->segment = segment;
        }
    if (bytes == 0)
        state->segment = 1; /* an empty datagram is handed back like any other */
    return 1;
}

static int crowded(const in_state *state)
{
    return state->logged + IN_PENDING > IN_LOG || state->unsent ||
           state->arena_bytes - ((state->end + 15) & ~15) < IN_READ_BYTES;
}

/* Go on with the batch that is under way: IN_IDLE at its end, or what the caller has to do. */
static int go_on(in_state *state, int fd, int send_fd)
{
    int code;
    if (state->after) {
        code = state->after;
        state->after = 0;
        return code;
    }
    for (;;) {
        while (state->offset < state->end) {
            if (state->logged >= IN_LOG || state->pending_count >= IN_PENDING || state->unsent) {
                code = flush(state, send_fd);
                return code ? code : IN_SETTLE;
            }
            code = take(state, send_fd);
            if (code)
                return code;
        }
        if (state->logged && crowded(state)) {
            code = flush(state, send_fd);
            return code ? code : IN_SETTLE;
        }
        if (state->reads++ >= IN_READS)
            break;
        code = receive(state, fd);
        if (code == IN_ERROR)
            return code;
        if (!code)
            break;
        if (state->end == state->offset) {
            state->at = state->stop = state->offset;
            state->leg = -1;
            state->handed = 1;
            code = flush(state, send_fd);
            if (!code)
                return IN_DATAGRAM;
            state->after = IN_DATAGRAM;
            return code;
        }
    }
    code = flush(state, send_fd);
    if (code)
        return code;
    state->reading = 0;
    if (state->handed || state->unsent) {
        state->handed = 0;
        return IN_BATCH_END;
    }
    return IN_IDLE;
}

/* Wait for datagrams and serve them until the time is over, something else is ready, or the caller is needed. */
int in_serve(in_state *state, int epoll_fd, int fd, int send_fd, int timeout_ms)
{
    int64_t until_ns = timeout_ms > 0 ? monotonic_ns() + (int64_t)timeout_ms * 1000000 : 0;
    for (;;) {
        struct epoll_event events[16];
        int count, mine = 0;
        if (state->reading) {
            int code = go_on(state, fd, send_fd);
            if (code)
                return code;
            if (state->others)
                return IN_IDLE;
            if (state->logged && state->now_us >= state->due_us)
                return IN_SETTLE;
            if (timeout_ms == 0)
                return IN_IDLE;
            if (timeout_ms > 0) {
                int64_t left_ns = until_ns - monotonic_ns();
                if (left_ns <= 0)
                    return IN_IDLE;
                timeout_ms = (int)((left_ns + 999999) / 1000000);
            }
        }
        count = epoll_wait(epoll_fd, events, 16, timeout_ms);
        state->others = count < 0;
        for (int i = 0; i < count; i++)
            if (events[i].data.fd == fd && events[i].events & ~(uint32_t)EPOLLOUT) {
                mine = 1;
                state->others |= (events[i].events & EPOLLOUT) != 0;
            } else {
                state->others = 1;
            }
        if (!mine)
            return IN_IDLE;
        state->reading = 1;
        state->reads = 0;
    }
}
