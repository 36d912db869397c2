/* SPDX-License-Identifier: Apache-2.0 */
/* What clients send, through the real connections: a script (fuzz_script.h) that begins as a client
 * while the worker answers by itself. The difficulty: whatever came, the worker may only see whole
 * requests of our own form, no more of them than slots were given, and the log only whole lines. */
#include "fuzz_script.h"
#include "fuzz_wire.h"
#include "orchestrator/json.h"

static void check_workers(void)
{
    size_t heads = 0;

    for (int i = 0; i < MAX_PEERS; i++)
        heads += requests_in(kg_buf_str(&world.workers[i].got));
    KG_ASSERT(heads <= 2 * (size_t)gate.granted + script.probes * 8);
}

static void check_line(struct kg_str line)
{
    static const char *const texts[] = {"time", "id",      "client",  "method", "target",
                                        "host", "service", "outcome", "warmth"};
    static const char *const numbers[] = {"status", "bytes_in", "bytes_out", "ms", "waited_ms"};
    struct kg_err err = {0};
    struct json *n = json_parse(line, 1 << 20, 2, NULL, &err);

    KG_ASSERT(n && json_type(n) == JSON_OBJECT && json_count(n) == 14);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        KG_ASSERT(json_get(n, texts[i]) && json_type(json_get(n, texts[i])) == JSON_STRING);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        KG_ASSERT(json_get(n, numbers[i]) && json_type(json_get(n, numbers[i])) == JSON_NUMBER);
        KG_ASSERT(json_number(json_get(n, numbers[i]), -1) >= 0);
    }
    json_free(n);
}

static void check_log(void)
{
    off_t size = lseek(world.log_fd, 0, SEEK_CUR);
    char *text = fuzz_copy("", 0);
    struct fuzz f;
    struct kg_str line;

    text = realloc(text, (size_t)size + 1);
    KG_ASSERT(text && pread(world.log_fd, text, (size_t)size, 0) == size);
    KG_ASSERT(size == 0 || text[size - 1] == '\n');
    f = (struct fuzz){(const uint8_t *)text, (size_t)size};
    while (fuzz_line(&f, &line)) {
        for (size_t i = 0; i < line.n; i++)
            KG_ASSERT((unsigned char)line.p[i] >= ' ' && line.p[i] != 0x7f);
        check_line(line);
    }
    free(text);
    KG_ASSERT(ftruncate(world.log_fd, 0) == 0 && lseek(world.log_fd, 0, SEEK_SET) == 0);
}

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
