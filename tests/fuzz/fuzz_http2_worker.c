/* SPDX-License-Identifier: Apache-2.0 */
/* Workers that speak HTTP/2: requests of ours, which are known, are answered by frames of a script
 * (fuzz_frames.h). The difficulty: the client speaks HTTP/1.1 and must get one answer for each,
 * whole or visibly broken, and not a byte that could be taken for another. */
#include "fuzz_frames.h"

#define GET "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
#define CHUNKED                                                                                    \
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: "       \
    "y\r\n\r\n"
#define HEAD_ "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"

static const char *const asked[] = {GET, POST, CHUNKED, HEAD_};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    world_init();
    world.protocols = PROXY_HTTP11;
    world.h2c = true;
    kg_buf_init(&last_frame, 2 << 20);
    script.frame = frame_order;
    return 0;
}

static void check_worker(const struct peer *w)
{
    struct kg_str got = kg_buf_str(&w->got);
    size_t n = sizeof PREFACE - 1 < got.n ? sizeof PREFACE - 1 : got.n;

    KG_ASSERT(n == 0 || memcmp(got.p, PREFACE, n) == 0);
    check_frames((struct kg_str){got.p + n, got.n - n});
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz f = {data, n};
    uint8_t flags = fuzz_byte(&f);
    const char *ask = asked[flags >> 3 & 3];
    bool says_more = memmem(data, n, "\xff\x02", 2) != NULL, open;
    struct peer *client;

    script.probes = 0;
    script_begin(flags & 7, false);
    kg_buf_clear(&last_frame);
    client = script.client;
    say_piece(client, ask, strlen(ask));
    script.to_worker = true;
    if (flags & 0x40)
        say_preface();
    play(f);
    if (!says_more && client && client->got.len > 0 && !client->deaf)
        KG_ASSERT(answers_in(kg_buf_str(&client->got), ask == asked[3], &open) <= 1);
    for (int i = 0; i < MAX_PEERS; i++)
        if (world.workers[i].got.len > 0)
            check_worker(&world.workers[i]);
    script_end(flags & 0x80);
    check_log();
    return 0;
}
