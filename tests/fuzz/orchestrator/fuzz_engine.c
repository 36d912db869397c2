/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine says: answers, events, lists, streams of lines, references, credentials. The
 * difficulty: nothing of it need have the shape that the documentation promises. */
#include "fuzz.h"
#include "orchestrator/engine_priv.h"

static void check_container(const struct engine_container *c)
{
    KG_ASSERT(memchr(c->id, 0, sizeof c->id) && memchr(c->name, 0, sizeof c->name));
    KG_ASSERT(memchr(c->owner, 0, sizeof c->owner) && memchr(c->service, 0, sizeof c->service));
    KG_ASSERT(memchr(c->spec, 0, sizeof c->spec) && memchr(c->error, 0, sizeof c->error));
    KG_ASSERT(memchr(c->sandbox, 0, sizeof c->sandbox));
    KG_ASSERT(c->state <= ENGINE_DEAD);
    KG_ASSERT(c->port >= 0 && c->port <= 65535);
    KG_ASSERT((c->address.ss_family == 0) == (c->address_length == 0));
    for (const char *p = c->error; *p; p++)
        KG_ASSERT((unsigned char)*p >= ' ' && *p != 0x7f);
}

static void answers(const struct json *n, uint8_t how)
{
    const struct engine_where where = {.reach = (enum engine_reach)(how & 3),
                                       .network = "mine",
                                       .published_ip = "127.0.0.1",
                                       .port = how & 4 ? 80 : 0,
                                       .socket_path = how & 8 ? "/s/app.sock" : NULL};
    struct engine_container c;
    struct engine_event event;
    int64_t time_ns;

    engine_parse_inspect(n, &c);
    check_container(&c);
    if (how & 16)
        c.state = ENGINE_RUNNING;
    engine_parse_address(n, &where, &c);
    check_container(&c);
    engine_parse_inspect(n, &c);
    engine_parse_ip(n, "mine", &c);
    check_container(&c);
    engine_parse_listed(n, &c);
    check_container(&c);
    if (engine_parse_event(n, "o", &event, &time_ns))
        KG_ASSERT(event.container.id[0] && strcmp(event.container.owner, "o") == 0);
    check_container(&event.container);
    KG_ASSERT(time_ns >= 0 && engine_parse_memory(n) >= -1);
}

static void words(struct kg_str text, uint8_t how)
{
    char out[256];
    size_t cap = 1 + how % sizeof out;
    struct transport_answer from = {.code = 0, .status = 200 + how * 2, .body = text};
    struct engine_answer to;

    engine_clean_words(out, cap, text);
    KG_ASSERT(strlen(out) < cap);
    for (const char *p = out; *p; p++)
        KG_ASSERT((unsigned char)*p >= ' ' && *p != 0x7f);
    for (int kind = 0; kind < KINDS; kind++) {
        engine_judge((enum engine_kind)kind, &from, &to);
        KG_ASSERT(to.code <= 0 && (!to.already || to.code == 0) &&
                  memchr(to.words, 0, sizeof to.words));
        engine_network_is_missing(&to);
    }
}

static void reference(struct kg_str text)
{
    struct engine_reference r;
    char *z = strndup(text.p, text.n);

    KG_ASSERT(z);
    if (engine_parse_reference(z, &r) == 0) {
        KG_ASSERT(r.host[0] && r.repository[0] && r.tag[0]);
        KG_ASSERT(!strchr(r.repository, '@') && !strstr(r.repository, ".."));
        KG_ASSERT(!strpbrk(r.repository, "?#% \r\n") && !strpbrk(r.tag, "?#% \r\n"));
    }
    if (engine_valid_id(z))
        KG_ASSERT(!strpbrk(z, "/?#% \r\n") && strlen(z) < ENGINE_NAME_BYTES);
    free(z);
}

static void credentials(const struct json *n)
{
    struct kg_buf out;

    kg_buf_init(&out, 64 * 1024);
    if (engine_auth_find(n, "docker.io", &out) && !out.error)
        for (size_t i = 0; i < out.len; i++)
            KG_ASSERT(out.data[i] > ' ' && out.data[i] < 0x7f);
    kg_buf_fini(&out);
}

/* --- lines --------------------------------------------------------------------------------- */

struct told {
    size_t count;
    uint64_t sum;
};

static void on_line(void *arg, struct kg_str line)
{
    struct told *t = arg;

    KG_ASSERT(line.n > 0 && line.n <= 64 && !memchr(line.p, '\n', line.n));
    t->count++;
    t->sum = t->sum * 31 + kg_hash(line.p, line.n);
}

static void lines(struct kg_str text, uint32_t seed, struct told *t)
{
    struct engine_lines l = {.skipping = false};

    *t = (struct told){0};
    kg_buf_init(&l.line, 64);
    for (size_t at = 0, n; at < text.n; at += n) {
        n = fuzz_piece(&seed, text.n - at);
        char *copy = fuzz_copy(text.p + at, n);
        engine_lines_feed(&l, (struct kg_str){copy, n}, on_line, t);
        free(copy);
    }
    kg_buf_fini(&l.line);
}

/* By definition: what stands before a line feed, is not too long, and is more than blanks. */
static void naive_lines(struct kg_str text, struct told *t)
{
    const char *end;

    *t = (struct told){0};
    for (; text.n > 0 && (end = memchr(text.p, '\n', text.n)); text.p = end + 1) {
        struct kg_str line = {text.p, (size_t)(end - text.p)};
        text.n -= line.n + 1;
        if (line.n <= 64 && kg_str_trim(line).n > 0)
            on_line(t, line);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz f = {data, n};
    uint8_t how = fuzz_byte(&f);
    char *copy = fuzz_copy(f.p, f.n);
    struct kg_str text = {copy, f.n};
    struct json *root = engine_json(text);
    struct told whole, split, naive;

    if (root) {
        answers(root, how);
        credentials(root);
    }
    json_free(root);
    words(text, how);
    reference(text);
    lines(text, 0, &whole);
    lines(text, how, &split);
    naive_lines(text, &naive);
    KG_ASSERT(whole.count == split.count && whole.sum == split.sum);
    KG_ASSERT(whole.count == naive.count && whole.sum == naive.sum);
    free(copy);
    return 0;
}
