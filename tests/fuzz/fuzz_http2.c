/* SPDX-License-Identifier: Apache-2.0 */
/* Clients that speak HTTP/2, through the real connections: frames of a script (fuzz_frames.h),
 * after a preface that is there already. The difficulty: the worker speaks HTTP/1.1 and must see
 * the same as ever, whatever is in a frame. */
#include "fuzz_frames.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    world_init();
    world.protocols = PROXY_HTTP11 | PROXY_H2C;
    kg_buf_init(&last_frame, 2 << 20);
    script.frame = frame_order;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz f = {data, n};
    uint8_t flags = fuzz_byte(&f);
    struct peer *client;

    script.probes = 0;
    script_begin(flags, true);
    kg_buf_clear(&last_frame);
    client = script.client;
    say_preface();
    play(f);
    if (client)
        check_frames(kg_buf_str(&client->got));
    check_workers();
    script_end(flags & 0x80);
    check_log();
    return 0;
}
