/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold after any script: what the worker saw, what the access log says.
 * The difficulty: both are told by others than the proxy: a reader of our own, a JSON library. */
#ifndef TESTS_FUZZ_BOOKS_H
#define TESTS_FUZZ_BOOKS_H

#include "fuzz_script.h"
#include "fuzz_wire.h"
#include "orchestrator/json.h"

/* Only whole requests of our own form, and no more of them than slots were given. */
static inline void check_workers(void)
{
    size_t heads = 0;

    for (int i = 0; i < MAX_PEERS; i++)
        heads += requests_in(kg_buf_str(&world.workers[i].got));
    KG_ASSERT(heads <= 2 * (size_t)gate.granted + script.probes * 8);
}

static inline void check_line(struct kg_str line)
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

static inline void check_log(void)
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

#endif
