/* A burst of one lane to all who are live in it, with the GIL released.
 *
 * The same steps as media/aio/forward.py in the same order: copy the template, write the header, count VP8 pictures as
 * the viewer has seen them, write the transport-wide number, protect in place, send a run of equal packets in one call.
 * It decides nothing: who gets what is in the tables, and a send the kernel does not take is handed back with the run in
 * state->buffer, for Python's one policy. Called again, it goes on behind that run.
 *
 * libsrtp is not linked: the caller gives the address of the srtp_protect that is in the process already.
 * Nothing is allocated. Only integers are written big-endian, byte by byte: templates are not aligned. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "fanout.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define HEADER_BYTES 12

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

static void renumber(unsigned char *packet, const fan_row *row, const fan_viewer *viewer)
{
    uint32_t picture = row->picture + (uint32_t)viewer->picture_shift;
    if (row->wide)
        put16(packet + row->picture_at, 0x8000 | (picture & 0x7FFF));
    else
        packet[row->picture_at] = picture & 0x7F;
    if (row->tl0_at >= 0)
        packet[row->tl0_at] = (unsigned char)(row->tl0 + viewer->tl0_shift);
}

/* Lay out and encrypt one run for one viewer. */
static void fill(fan_state *state, const unsigned char *templates, const fan_row *row, const fan_row *end,
                 const fan_viewer *viewer)
{
    state->bytes = state->segment = state->packets = state->octets = 0;
    for (; row < end; row++) {
        unsigned char *packet = state->buffer + state->bytes;
        int bytes = row->bytes;
        if (row->number < viewer->base)
            continue; /* from before this viewer's start */
        memcpy(packet + HEADER_BYTES, templates + row->at, (size_t)row->bytes - HEADER_BYTES);
        put16(packet, row->word);
        put16(packet + 2, (uint32_t)row->number + viewer->shift);
        put32(packet + 4, row->timestamp + viewer->timestamp_shift);
        put32(packet + 8, viewer->ssrc);
        if (row->picture_at >= 0 && (viewer->picture_shift || viewer->tl0_shift))
            renumber(packet, row, viewer);
        if (row->counter_at >= 0)
            put16(packet + row->counter_at, (uint32_t)(state->first + state->placed));
        state->placed++;
        if (state->protect(viewer->leg->srtp, packet, &bytes) != 0) {
            state->protect_errors++;
            continue;
        }
        state->bytes += bytes;
        if (!state->segment)
            state->segment = bytes;
        state->packets++;
        state->octets += row->payload;
    }
}

/* The viewer's packets of a burst take their transport-wide numbers as a whole. */
static void take_numbers(fan_state *state, const fan_row *row, const fan_row *end, const fan_viewer *viewer)
{
    fan_leg *leg = viewer->leg;
    int64_t number = state->first = *leg->next;
    for (; row < end; row++) {
        if (row->number < viewer->base)
            continue;
        leg->send_us[number & (leg->remembered - 1)] = state->now_us;
        leg->sizes[number & (leg->remembered - 1)] = row->bytes;
        number++;
    }
    *leg->next = number;
}

static int transmit(fan_state *state, int fd, fan_leg *leg)
{
    struct iovec part = {state->buffer, (size_t)state->bytes};
    struct msghdr message = {.msg_name = leg->address, .msg_namelen = leg->address_bytes, .msg_iov = &part, .msg_iovlen = 1};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
    } control;
    if (state->bytes > state->segment) {
        uint16_t segment = (uint16_t)state->segment;
        memset(&control, 0, sizeof control);
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        control.header.cmsg_level = IPPROTO_UDP;
        control.header.cmsg_type = UDP_SEGMENT;
        control.header.cmsg_len = CMSG_LEN(sizeof segment);
        memcpy(CMSG_DATA(&control.header), &segment, sizeof segment);
    }
    while (sendmsg(fd, &message, MSG_DONTWAIT) < 0)
        if (errno != EINTR)
            return errno;
    return FAN_SENT;
}

/* End of the run that begins at a row: equal sizes, only the last may be smaller (media.core.router.plan_runs). */
static int run_end(const fan_row *rows, int start, int count)
{
    int end = start + 1;
    while (end < count && end - start < FAN_RUN && rows[end].bytes == rows[start].bytes)
        end++;
    if (end < count && end - start < FAN_RUN && rows[end].bytes < rows[start].bytes)
        end++;
    return end;
}

/* Send a burst from where state stands. FAN_SENT: all of it. Else the run in state->buffer did not leave, and the
 * caller deals with it: an errno, or FAN_HELD where the viewer is not reached by UDP or there is no socket to use. */
int fan_out(fan_state *state, int fd, const unsigned char *templates, const fan_row *rows, int row_count,
            fan_viewer **viewers, int count)
{
    for (; state->viewer < count; state->viewer++, state->row = state->placed = 0) {
        fan_viewer *viewer = viewers[state->viewer];
        fan_leg *leg = viewer->leg;
        if (!leg->srtp || viewer->held)
            continue;
        if (state->row == 0 && rows->counter_at >= 0 && leg->next)
            take_numbers(state, rows, rows + row_count, viewer);
        while (state->row < row_count) {
            int status = FAN_HELD;
            state->start = state->row;
            state->row = run_end(rows, state->start, row_count);
            fill(state, templates, rows + state->start, rows + state->row, viewer);
            if (!state->bytes)
                continue;
            if (fd >= 0 && leg->address_bytes)
                status = transmit(state, fd, leg);
            if (status != FAN_SENT)
                return status;
            viewer->packets += (uint64_t)state->packets;
            viewer->octets += (uint64_t)state->octets;
            state->sent += state->packets;
        }
    }
    return FAN_SENT;
}

/* Where a leg is reached: 0, or -1 for a host that is no address. */
int fan_address(fan_leg *leg, const char *host, int port, int flow, int scope, int six)
{
    if (six) {
        struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
        address.sin6_flowinfo = htonl((uint32_t)flow);
        address.sin6_scope_id = (uint32_t)scope;
        leg->address_bytes = 0;
        if (inet_pton(AF_INET6, host, &address.sin6_addr) != 1)
            return -1;
        memcpy(leg->address, &address, sizeof address);
        leg->address_bytes = sizeof address;
    } else {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        leg->address_bytes = 0;
        if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
            return -1;
        memcpy(leg->address, &address, sizeof address);
        leg->address_bytes = sizeof address;
    }
    return 0;
}
