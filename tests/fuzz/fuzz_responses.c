/* SPDX-License-Identifier: Apache-2.0 */
/* What workers send, through the real connections: requests of ours, which are known, are answered
 * by the input. The difficulty: what the client gets must be one answer for each of them, whole or
 * visibly broken, and not a byte that could be taken for another. */
#include "fuzz_script.h"
#include "fuzz_wire.h"

#define GET "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"
#define HEAD_ "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
#define OLD "GET / HTTP/1.0\r\nHost: a\r\n\r\n"
#define SOCKET "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

static const char *const asked[] = {GET, HEAD_, OLD, SOCKET, GET GET};

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
    uint8_t flags = fuzz_byte(&f), which = flags >> 3 & 7;
    const char *ask = asked[which % (sizeof asked / sizeof *asked)];
    bool says_more = memmem(data, n, "\xff\x02", 2) != NULL, open;
    struct peer *client;

    script.probes = 0;
    script_begin(flags & 7, false);
    client = script.client;
    say_piece(client, ask, strlen(ask));
    script.to_worker = true;
    play(f);
    if (!says_more && client && client->got.len > 0 && !client->deaf) {
        size_t most = ask == asked[4] ? 2 : 1;
        size_t count = answers_in(kg_buf_str(&client->got), ask == asked[1], &open);
        KG_ASSERT(count <= most);
    }
    script_end(flags & 0x80);
    KG_ASSERT(ftruncate(world.log_fd, 0) == 0);
    lseek(world.log_fd, 0, SEEK_SET);
    return 0;
}
