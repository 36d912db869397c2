/* SPDX-License-Identifier: Apache-2.0 */
/* What clients send, through the real connections: a script (fuzz_script.h) that begins as a client
 * while the worker answers by itself. The difficulty: whatever came, the worker may only see whole
 * requests of our own form, no more of them than slots were given, and the log only whole lines. */
#include "fuzz_books.h"

/* Nothing comes to a client that does not begin as an answer. */
static void check_clients(void)
{
    static const struct kg_str begin = {"HTTP/1.1 ", 9};

    for (int i = 0; i < MAX_PEERS; i++) {
        struct kg_str got = kg_buf_str(&world.clients[i].got);
        size_t n = got.n < begin.n ? got.n : begin.n;
        KG_ASSERT(n == 0 || memcmp(got.p, begin.p, n) == 0);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    world_init();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz f = {data, n};
    uint8_t flags = fuzz_byte(&f);

    script.probes = 0;
    script_begin(flags, true);
    play(f);
    check_clients();
    check_workers();
    script_end(flags & 0x80);
    check_log();
    return 0;
}
