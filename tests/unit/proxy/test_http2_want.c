/* SPDX-License-Identifier: Apache-2.0 */
/* A client's HTTP/2 session that runs out of memory in the middle of its frames.
 * The difficulty: what is refused must be the room for one frame's head, so the head of the answer
 * before it is made longer and longer, and of each length every allocation is refused once. */
#include "memory.h"
#include "world.h"

#define ASK                                                                                        \
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"                                           \
    "\0\0\6\1\5\0\0\0\1\x82\x86\x84\x41\1a" /* GET http / with authority a */
#define BODY_BYTES 8000                     /* of 'w', which no frame's head has in it */
#define FRAME_HEAD_BYTES 9
#define WINDOW_UPDATE 8

/* All that came is frames, from the first byte on. */
static void are_frames(const struct peer *c)
{
    const unsigned char *at = (const unsigned char *)c->got.data;
    size_t left = c->got.len;

    while (left >= FRAME_HEAD_BYTES) {
        size_t n = (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];
        ck_assert_msg(n <= BODY_BYTES && at[3] <= WINDOW_UPDATE, "no frame, but: %.9s", at);
        if (left < FRAME_HEAD_BYTES + n)
            return;
        at += FRAME_HEAD_BYTES + n;
        left -= FRAME_HEAD_BYTES + n;
    }
}

/* Whether the refusal came before the answer was given. */
static bool answer_in_want(int pad, int allocation)
{
    static char text[2 * BODY_BYTES];
    struct peer c = client(), w;
    bool enough;
    int n;

    say_bytes(&c, ASK, sizeof ASK - 1);
    w = worker();
    hear(&w, "\r\n\r\n");
    n = snprintf(
        text, sizeof text,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\nX-Pad: %0*d\r\n\r\n",
        BODY_BYTES, pad, 0);
    memset(text + n, 'w', BODY_BYTES);
    ck_assert_int_eq(send(w.fd, text, (size_t)n + BODY_BYTES, MSG_NOSIGNAL), n + BODY_BYTES);
    allocations_left = allocation;
    until(gate.released == gate.granted);
    for (int i = 0; i < 3; i++)
        turn();
    enough = memory_was_enough();
    look(&c);
    are_frames(&c);
    bye(&c);
    bye(&w);
    until(world.stats.connections == 0);
    return !enough;
}

START_TEST(no_room_for_the_head_of_a_frame)
{
    for (int pad = 240; pad < 400; pad += 8)
        for (int i = 0; i < 12 && answer_in_want(pad, i); i++)
            ;
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {no_room_for_the_head_of_a_frame};

    return world_run("http2 in want", tests, sizeof tests / sizeof *tests);
}
