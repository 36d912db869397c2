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

/* A status line as we write it; 0: none. */
static int status_of(struct kg_str line)
{
    KG_ASSERT(line.n >= 13 && memcmp(line.p, "HTTP/1.1 ", 9) == 0 && line.p[12] == ' ');
    KG_ASSERT(line.p[9] >= '1' && line.p[9] <= '5');
    return (line.p[9] - '0') * 100 + (line.p[10] - '0') * 10 + (line.p[11] - '0');
}

static bool answer_head(struct kg_str *in, struct seen *s, int *status)
{
    struct kg_str line;

    *s = (struct seen){0};
    if (!next_line(in, &line))
        return false;
    *status = status_of(line);
    do {
        if (!next_line(in, &line))
            return false;
        if (line.n > 0)
            seen_field(s, line);
    } while (line.n > 0);
    return true;
}

/* How many final answers begin in it. *open: the last may be followed by anything. */
static size_t answers_in(struct kg_str in, bool head, bool *open)
{
    size_t count = 0;
    struct seen s;
    int status;

    *open = false;
    while (in.n > 0 && answer_head(&in, &s, &status)) {
        if (status == 101) {
            *open = true;
            return count + 1;
        }
        if (status < 200) {
            KG_ASSERT(!s.chunked && !s.has_length);
            continue;
        }
        count++;
        if (head || status == 204 || status == 304)
            continue;
        *open = !s.chunked && !s.has_length;
        if (*open || (s.chunked && !seen_chunks(&in)) || s.length > in.n)
            return count;
        in.p += s.length;
        in.n -= (size_t)s.length;
    }
    return count;
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
    ftruncate(world.log_fd, 0);
    lseek(world.log_fd, 0, SEEK_SET);
    return 0;
}
