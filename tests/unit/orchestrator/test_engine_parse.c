/* SPDX-License-Identifier: Apache-2.0 */
/* The engine client's pure parts: answers, events, addresses, references, credentials, bodies. */
#include "orchestrator/engine_priv.h"
#include <arpa/inet.h>
#include <check.h>
#include <stdlib.h>

static struct json *parse(const char *text)
{
    struct json *n = engine_json(kg_str_of(text));

    ck_assert_ptr_nonnull(n);
    return n;
}

static const char *printed(const struct json *n)
{
    static char out[8192];
    struct kg_buf b;

    kg_buf_init(&b, sizeof out - 1);
    ck_assert_int_eq(json_print(n, false, &b), 0);
    ck_assert(kg_str_copy(out, sizeof out, kg_buf_str(&b)));
    kg_buf_fini(&b);
    return out;
}

/* --- answers --- */

#define INSPECT                                                                                    \
    "{\"Id\":\"abc\",\"Name\":\"/kipgate-a-1\",\"State\":{\"Status\":\"%s\",\"ExitCode\":137,"     \
    "\"OOMKilled\":true,\"Error\":\"no\\nway\"},\"Config\":{\"Labels\":{\"io.kipgate.owner\":"     \
    "\"o\",\"io.kipgate.service\":\"a\",\"io.kipgate.spec\":\"s\"},\"ExposedPorts\":{\"80/tcp\":"  \
    "{},\"53/udp\":{}}},\"NetworkSettings\":{\"Networks\":{\"x\":{\"IPAddress\":\"10.0.0.1\"},"    \
    "\"mine\":{\"IPAddress\":\"10.0.0.2\"}},\"Ports\":{\"80/tcp\":[{\"HostIp\":\"127.0.0.1\","     \
    "\"HostPort\":\"32768\"}]}}}"

static struct engine_container inspected(const char *status, const struct engine_where *where)
{
    struct engine_container c;
    char text[2048];
    struct json *n;

    snprintf(text, sizeof text, INSPECT, status);
    n = parse(text);
    engine_parse_inspect(n, &c);
    engine_parse_address(n, where, &c);
    json_free(n);
    return c;
}

static const char *address(const struct engine_container *c)
{
    static char text[200];
    const struct sockaddr_in *in = (const void *)&c->address;
    const struct sockaddr_un *un = (const void *)&c->address;
    char ip[64];

    if (c->address.ss_family == AF_UNIX)
        snprintf(text, sizeof text, "%s", un->sun_path);
    else if (c->address.ss_family == AF_INET)
        snprintf(text, sizeof text, "%s:%d", inet_ntop(AF_INET, &in->sin_addr, ip, sizeof ip),
                 ntohs(in->sin_port));
    else
        snprintf(text, sizeof text, "none");
    return text;
}

START_TEST(an_inspect_is_read)
{
    const struct engine_where where = {.reach = REACH_ADDRESS, .network = "mine"};
    struct engine_container c = inspected("running", &where);

    ck_assert_str_eq(c.id, "abc");
    ck_assert_str_eq(c.name, "kipgate-a-1");
    ck_assert_str_eq(c.owner, "o");
    ck_assert_str_eq(c.service, "a");
    ck_assert_str_eq(c.spec, "s");
    ck_assert_int_eq(c.state, ENGINE_RUNNING);
    ck_assert_int_eq(c.exit_code, 137);
    ck_assert(c.oom_killed);
    ck_assert_str_eq(c.error, "no way");
}
END_TEST

START_TEST(an_address_is_found_by_reach)
{
    struct engine_where where = {.reach = REACH_ADDRESS, .network = "mine"};
    struct engine_container c = inspected("running", &where);

    ck_assert_str_eq(address(&c), "10.0.0.2:80");
    where.port = 8080;
    c = inspected("paused", &where);
    ck_assert_str_eq(address(&c), "10.0.0.2:8080");
    where.network = "gone"; /* the network was made anew: any of its own will do */
    c = inspected("running", &where);
    ck_assert_str_eq(address(&c), "10.0.0.1:8080");
    where = (struct engine_where){.reach = REACH_PUBLISHED, .published_ip = "127.0.0.1"};
    c = inspected("running", &where);
    ck_assert_str_eq(address(&c), "127.0.0.1:32768");
    where.port = 81; /* not published */
    c = inspected("running", &where);
    ck_assert_str_eq(address(&c), "none");
    where.socket_path = "/s/app.sock";
    c = inspected("running", &where);
    ck_assert_str_eq(address(&c), "/s/app.sock");
    c = inspected("exited", &where);
    ck_assert_str_eq(address(&c), "none");
}
END_TEST

START_TEST(states_are_known_or_dead)
{
    ck_assert_int_eq(engine_parse_state("created"), ENGINE_CREATED);
    ck_assert_int_eq(engine_parse_state("paused"), ENGINE_PAUSED);
    ck_assert_int_eq(engine_parse_state("configured"), ENGINE_CREATED);
    ck_assert_int_eq(engine_parse_state("stopped"), ENGINE_EXITED);
    ck_assert_int_eq(engine_parse_state(""), ENGINE_DEAD);
    ck_assert_int_eq(engine_parse_state("Running"), ENGINE_DEAD);
}
END_TEST

/* Shapes that nobody promised: nothing is found, nothing breaks. */
static const char *const shapes[] = {
    "{}",
    "[]",
    "null",
    "1",
    "\"x\"",
    "{\"Id\":1,\"State\":[],\"Config\":null,\"Names\":{}}",
    "{\"State\":{\"Status\":7,\"ExitCode\":1e300}}",
    "{\"NetworkSettings\":{\"Networks\":[{\"IPAddress\":\"1.2.3.4\"}],\"Ports\":{\"80/tcp\":{}}}}",
    "{\"NetworkSettings\":{\"Networks\":{\"mine\":{\"IPAddress\":\"1.2.3.4.5\"}}}}",
};

START_TEST(odd_shapes_do_no_harm)
{
    const struct engine_where where = {
        .reach = REACH_PUBLISHED, .network = "mine", .published_ip = "127.0.0.1", .port = 80};
    struct json *n = parse(shapes[_i]);
    struct engine_container c;
    struct engine_event event;
    int64_t ns;

    engine_parse_listed(n, &c);
    engine_parse_inspect(n, &c);
    c.state = ENGINE_RUNNING;
    engine_parse_address(n, &where, &c);
    ck_assert_int_eq(c.address.ss_family, 0);
    ck_assert(!engine_parse_event(n, "o", &event, &ns));
    json_free(n);
}
END_TEST

static const struct {
    const char *exposed;
    int port;
    size_t count;
} ports[] = {
    {"{\"80/tcp\":{}}", 80, 1},
    {"{\"80\":{}}", 80, 1},
    {"{\"80/tcp\":{},\"53/udp\":{}}", 80, 1},
    {"{\"80/tcp\":{},\"81/tcp\":{}}", 0, 2},
    {"{\"53/udp\":{}}", 0, 0},
    {"{\"0/tcp\":{}}", 0, 0},
    {"{\"65535/tcp\":{}}", 65535, 1},
    {"{\"65536/tcp\":{}}", 0, 0},
    {"{\"8000-8010/tcp\":{}}", 0, 0},
    {"null", 0, 0},
};

START_TEST(the_single_port)
{
    struct json *n = parse(ports[_i].exposed);
    size_t count = 99;

    ck_assert_int_eq(engine_parse_port(n, &count), ports[_i].port);
    ck_assert_uint_eq(count, ports[_i].count);
    json_free(n);
}
END_TEST

/* --- events --- */

#define EVENT(action, owner)                                                                       \
    "{\"Type\":\"container\",\"Action\":\"" action "\",\"Actor\":{\"ID\":\"abc\",\"Attributes\":"  \
    "{\"name\":\"n\",\"exitCode\":\"3\",\"io.kipgate.owner\":\"" owner                             \
    "\",\"io.kipgate.service\":\"a\"}},\"time\":1700000000,\"timeNano\":1700000000123456789}"

START_TEST(events_are_read)
{
    struct json *n = parse(EVENT("die", "o"));
    struct engine_event event;
    int64_t ns;

    ck_assert(engine_parse_event(n, "o", &event, &ns));
    ck_assert_int_eq(event.kind, ENGINE_EVENT_DIE);
    ck_assert_str_eq(event.container.id, "abc");
    ck_assert_str_eq(event.container.name, "n");
    ck_assert_str_eq(event.container.service, "a");
    ck_assert_int_eq(event.container.exit_code, 3);
    ck_assert(ns > 1700000000000000000 && ns < 1700000001000000000);
    ck_assert(!engine_parse_event(n, "other", &event, &ns));
    json_free(n);
}
END_TEST

static const char *const ignored[] = {
    EVENT("exec_start: sh", "o"),
    EVENT("health_status: healthy", "o"),
    EVENT("kill", "o"),
    EVENT("", "o"),
    EVENT("DIE", "o"),
    EVENT("die", ""),
};

START_TEST(other_events_are_passed_over)
{
    struct json *n = parse(ignored[_i]);
    struct engine_event event;
    int64_t ns;

    ck_assert(!engine_parse_event(n, "o", &event, &ns));
    json_free(n);
}
END_TEST

/* --- lines --- */

static char seen[4096];

static void on_line(void *arg, struct kg_str line)
{
    (void)arg;
    snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "[%.*s]", (int)line.n, line.p);
}

static void feed_split(struct kg_str text, size_t at, size_t max_bytes)
{
    struct engine_lines l = {.skipping = false};

    kg_buf_init(&l.line, max_bytes);
    seen[0] = '\0';
    engine_lines_feed(&l, (struct kg_str){text.p, at}, on_line, NULL);
    engine_lines_feed(&l, (struct kg_str){text.p + at, text.n - at}, on_line, NULL);
    kg_buf_fini(&l.line);
}

START_TEST(lines_come_out_however_they_are_split)
{
    struct kg_str text = KG_STR("{\"a\":1}\n\n \nbb\nlast");

    for (size_t at = 0; at <= text.n; at++) {
        feed_split(text, at, 100);
        ck_assert_str_eq(seen, "[{\"a\":1}][bb]");
    }
}
END_TEST

START_TEST(a_line_that_is_too_long_is_passed_over)
{
    struct kg_str text = KG_STR("a\n12345\nb\n");

    for (size_t at = 0; at <= text.n; at++) {
        feed_split(text, at, 4);
        ck_assert_str_eq(seen, "[a][b]");
        feed_split(text, at, 5);
        ck_assert_str_eq(seen, "[a][12345][b]");
        feed_split(text, at, 6);
        ck_assert_str_eq(seen, "[a][12345][b]");
    }
}
END_TEST

/* --- what a status means --- */

static const struct {
    enum engine_kind kind;
    int status;
    const char *body;
    int code;
    bool already;
} rows[] = {
    {KIND_CREATE, 201, "{}", 0, false},
    {KIND_CREATE, 400, "{\"message\":\"bad\"}", KG_EINVAL, false},
    {KIND_CREATE, 404, "{\"message\":\"No such image: x\"}", KG_ENOTFOUND, false},
    {KIND_CREATE, 409, "{\"message\":\"in use\"}", KG_ECONFLICT, false},
    {KIND_CREATE, 500, "<html>", KG_EIO, false},
    {KIND_CREATE, 403, "{}", KG_EIO, false},
    {KIND_CREATE, 302, "", KG_EIO, false},
    {KIND_START, 204, "", 0, false},
    {KIND_START, 304, "", 0, true},
    {KIND_START, 404, "{\"message\":\"No such container\"}", KG_ENOTFOUND, false},
    {KIND_STOP, 304, "", 0, true},
    {KIND_STOP, 404, "{\"message\":\"No such container\"}", 0, true},
    {KIND_REMOVE, 404, "{}", 0, true},
    {KIND_REMOVE, 409, "{\"message\":\"removal of container x is already in progress\"}", 0, true},
    {KIND_REMOVE, 409, "{\"message\":\"other\"}", KG_ECONFLICT, false},
    {KIND_IMAGE, 404, "{}", KG_ENOTFOUND, false},
};

START_TEST(a_status_means_what_the_table_says)
{
    const struct transport_answer from = {.status = rows[_i].status,
                                          .body = kg_str_of(rows[_i].body)};
    struct engine_answer to = {0};

    engine_judge(rows[_i].kind, &from, &to);
    ck_assert_int_eq(to.code, rows[_i].code);
    ck_assert(to.already == rows[_i].already);
    ck_assert_int_eq(to.status, rows[_i].status);
    if (to.code == 0)
        ck_assert_str_eq(to.words, "");
}
END_TEST

/* --- sandboxes --- */

START_TEST(whose_network_it_is_is_read)
{
    struct engine_container c;
    struct json *n = parse("{\"Id\":\"1\",\"State\":\"running\",\"HostConfig\":{\"NetworkMode\":"
                           "\"container:0a\"},\"Labels\":{\"io.kipgate.sandbox\":\"\"}}");

    engine_parse_listed(n, &c);
    ck_assert_str_eq(c.sandbox, "0a");
    ck_assert(c.is_sandbox);
    json_free(n);
    n = parse("{\"Id\":\"1\",\"State\":\"running\",\"HostConfig\":{\"NetworkMode\":\"n\"}}");
    engine_parse_listed(n, &c);
    ck_assert_str_eq(c.sandbox, "");
    ck_assert(!c.is_sandbox);
    json_free(n);
}
END_TEST

static const struct {
    enum engine_reach reach;
    const char *exposed;
    int port, found;
} joined[] = {
    {REACH_ADDRESS, "{\"80/tcp\":{}}", 0, 80},
    {REACH_NETWORK, "{}", 9000, 9000},
    {REACH_ADDRESS, "{}", 0, 0},
    {REACH_PUBLISHED, "{\"80/tcp\":{}}", 0, 0},
};

START_TEST(a_joined_workers_port_is_read_but_no_address)
{
    const struct engine_where where = {
        .reach = joined[_i].reach, .network = "n", .port = joined[_i].port};
    struct engine_container c;
    char text[512];
    struct json *n;

    snprintf(text, sizeof text,
             "{\"Id\":\"1\",\"State\":{\"Status\":\"running\"},\"HostConfig\":{\"NetworkMode\":"
             "\"container:0a\"},\"Config\":{\"ExposedPorts\":%s}}",
             joined[_i].exposed);
    n = parse(text);
    engine_parse_inspect(n, &c);
    engine_parse_address(n, &where, &c);
    ck_assert_int_eq(c.port, joined[_i].found);
    ck_assert_int_eq(c.address_length, 0);
    json_free(n);
}
END_TEST

START_TEST(the_archive_holds_one_small_program)
{
    struct kg_buf b;
    unsigned sum = 0;

    kg_buf_init(&b, 64 * 1024);
    engine_parking_archive(&b);
    ck_assert_int_eq(b.error, 0);
    ck_assert_uint_eq(b.len % 512, 0);
    ck_assert_uint_le(b.len, 4096);
    ck_assert_str_eq(b.data, "kipgate-sandbox");
    ck_assert_str_eq(b.data + 100, "0000555"); /* mode */
    ck_assert_int_eq(memcmp(b.data + 257, "ustar\00000", 8), 0);
    for (int i = 0; i < 512; i++)
        sum += i >= 148 && i < 156 ? ' ' : (unsigned char)b.data[i];
    ck_assert_uint_eq(strtoul(b.data + 148, NULL, 8), sum);
    ck_assert_uint_lt(strtoul(b.data + 124, NULL, 8), 1024);
    ck_assert_int_eq(memcmp(b.data + 512, "\177ELF", 4), 0);
    kg_buf_fini(&b);
}
END_TEST

static const struct {
    const char *stats;
    int64_t bytes;
} weights[] = {
    {"{\"memory_stats\":{\"usage\":9000,\"stats\":{\"total_inactive_file\":2000,"
     "\"inactive_file\":1}}}",
     7000},
    {"{\"memory_stats\":{\"usage\":9000,\"stats\":{\"inactive_file\":1000}}}", 8000},
    {"{\"memory_stats\":{\"usage\":9000,\"stats\":{\"inactive_file\":9001}}}", 9000},
    {"{\"memory_stats\":{\"usage\":9000}}", 9000},
    {"{\"memory_stats\":{}}", -1}, /* it does not run */
    {"{\"memory_stats\":{\"usage\":0}}", -1},
    {"{\"memory_stats\":{\"usage\":1e30}}", -1},
    {"{\"memory_stats\":{\"usage\":\"9\",\"stats\":[]}}", -1},
    {"[]", -1},
};

START_TEST(memory_in_use_is_without_the_cache)
{
    struct json *n = parse(weights[_i].stats);

    ck_assert_int_eq(engine_parse_memory(n), weights[_i].bytes);
    json_free(n);
}
END_TEST

START_TEST(words_are_cut_and_clean)
{
    char out[8];

    engine_clean_words(out, sizeof out, KG_STR("\x1b[31m\n\n a "));
    ck_assert_str_eq(out, "[31m a");
    engine_clean_words(out, sizeof out, KG_STR("1234567"));
    ck_assert_str_eq(out, "1234567");
    engine_clean_words(out, sizeof out, KG_STR("12345678"));
    ck_assert_str_eq(out, "1234567");
    engine_clean_words(out, sizeof out, KG_STR("12345\xe2\x82\xac"));
    ck_assert_str_eq(out, "12345"); /* no half character */
    engine_clean_words(out, sizeof out, KG_STR("1234\xe2\x82\xac"));
    ck_assert_str_eq(out, "1234\xe2\x82\xac");
}
END_TEST

START_TEST(a_missing_network_is_told_from_the_rest)
{
    struct engine_answer a = {.status = 404, .words = "network kipgate-1 not found"};

    ck_assert(engine_network_is_missing(&a));
    snprintf(a.words, sizeof a.words, "No such container: network-not found");
    ck_assert(!engine_network_is_missing(&a));
    snprintf(a.words, sizeof a.words, "no such image: network: No such image");
    ck_assert(!engine_network_is_missing(&a));
    a.status = 0;
    ck_assert(!engine_network_is_missing(&a));
}
END_TEST

START_TEST(ids_and_names_are_checked)
{
    ck_assert(engine_valid_id("kipgate-a_1.b"));
    ck_assert(!engine_valid_id(""));
    ck_assert(!engine_valid_id("-a"));
    ck_assert(!engine_valid_id(".."));
    ck_assert(!engine_valid_id("a/b"));
    ck_assert(!engine_valid_id("a?b"));
    ck_assert(!engine_valid_id("a%2fb"));
    ck_assert(!engine_valid_id("a b"));
}
END_TEST

/* --- references --- */

static const char *const references[][4] = {
    {"debian", "docker.io", "debian", "latest"},
    {"debian:12", "docker.io", "debian", "12"},
    {"a/b:c", "docker.io", "a/b", "c"},
    {"docker.io/a/b", "docker.io", "docker.io/a/b", "latest"},
    {"index.docker.io/a/b", "docker.io", "index.docker.io/a/b", "latest"},
    {"localhost/a", "localhost", "localhost/a", "latest"},
    {"127.0.0.1:5000/a/b", "127.0.0.1:5000", "127.0.0.1:5000/a/b", "latest"},
    {"ghcr.io/a/b:1@sha256:00", "ghcr.io", "ghcr.io/a/b", "sha256:00"},
    {"reg:5000/a@sha256:00", "reg:5000", "reg:5000/a", "sha256:00"},
    {"", NULL, NULL, NULL},
    {"a b", NULL, NULL, NULL},
    {"a/../b", NULL, NULL, NULL},
    {"/a", NULL, NULL, NULL},
    {"./a", NULL, NULL, NULL},
    {"a/", NULL, NULL, NULL},
    {"a//b", NULL, NULL, NULL},
    {"a?x", NULL, NULL, NULL},
    {"a#x", NULL, NULL, NULL},
    {"a%2f", NULL, NULL, NULL},
    {"a:", NULL, NULL, NULL},
    {"a@", NULL, NULL, NULL},
    {"@sha256:00", NULL, NULL, NULL},
    {":1", NULL, NULL, NULL},
};

START_TEST(references_are_taken_apart)
{
    const char *const *row = references[_i];
    struct engine_reference r;

    ck_assert_int_eq(engine_parse_reference(row[0], &r), row[1] ? 0 : KG_EINVAL);
    if (!row[1])
        return;
    ck_assert_str_eq(r.host, row[1]);
    ck_assert_str_eq(r.repository, row[2]);
    ck_assert_str_eq(r.tag, row[3]);
}
END_TEST

/* --- credentials --- */

static const char *found_for(const char *config, const char *host)
{
    static char out[1024];
    struct json *n = parse(config);
    struct kg_buf b;

    kg_buf_init(&b, sizeof out - 1);
    if (!engine_auth_find(n, host, &b))
        kg_buf_puts(&b, "-");
    ck_assert(kg_str_copy(out, sizeof out, kg_buf_str(&b)));
    kg_buf_fini(&b);
    json_free(n);
    return out;
}

START_TEST(credentials_are_found_by_host)
{
    const char *config = /* u:p>~ */
        "{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"dTpwPn4=\"},"
        "\"reg:5000\":{\"username\":\"u\",\"password\":\"p\"},\"t.io\":{\"identitytoken\":\"x\"},"
        "\"empty.io\":{},\"bad.io\":{\"auth\":\"bm9jb2xvbg==\"}}}";

    /* {"username":"u","password":"p>~","serveraddress":"https://index.docker.io/v1/"} */
    ck_assert_str_eq(found_for(config, "docker.io"),
                     "eyJ1c2VybmFtZSI6InUiLCJwYXNzd29yZCI6InA-fiIsInNlcnZlcmFkZHJlc3MiOiJodHRwczov"
                     "L2luZGV4LmRvY2tlci5pby92MS8ifQ==");
    ck_assert_str_eq(found_for(config, "reg:5000"), /* {"username":"u","password":"p",... */
                     "eyJ1c2VybmFtZSI6InUiLCJwYXNzd29yZCI6InAiLCJzZXJ2ZXJhZGRyZXNzIjoicmVnOjUwMDAi"
                     "fQ==");
    ck_assert_str_ne(found_for(config, "t.io"), "-");
    ck_assert_str_eq(found_for(config, "reg"), "-");
    ck_assert_str_eq(found_for(config, "empty.io"), "-");
    ck_assert_str_eq(found_for(config, "bad.io"), "-");
    ck_assert_str_eq(found_for("{\"auths\":[]}", "docker.io"), "-");
}
END_TEST

/* --- bodies --- */

static struct config_service plain_service(void)
{
    static char image[] = "img";
    struct config_service s = {.image = image,
                               .pids = 512,
                               .read_only = CONFIG_UNSET,
                               .init = CONFIG_UNSET,
                               .name = "a",
                               .spec = "spec"};

    return s;
}

static const struct engine_ground plain_ground = {.owner = "o",
                                                  .key = "k",
                                                  .reach = REACH_ADDRESS,
                                                  .network = "net",
                                                  .published_ip = "127.0.0.1",
                                                  .init = true,
                                                  .json_file = true};

static struct json *body_of(const struct config_service *s, const struct engine_ground *g, int port)
{
    struct engine_body b;
    struct kg_buf text;
    struct kg_err err = {0};
    struct json *n;

    ck_assert_int_eq(engine_body_begin(&b, s, g, &err), 0);
    kg_buf_init(&text, 1 << 20);
    ck_assert_int_eq(engine_body_finish(&b, "kipgate-a-1", port, g, &text), 0);
    n = parse(text.data);
    kg_buf_fini(&text);
    return n;
}

static void has(const struct json *n, const char *path, const char *wanted)
{
    ck_assert_str_eq(printed(json_path(n, path)), wanted);
}

START_TEST(the_default_profile)
{
    struct config_service s = plain_service();
    struct json *n = body_of(&s, &plain_ground, 8080);

    has(n, "HostConfig.CapDrop", "[\"NET_RAW\",\"MKNOD\",\"AUDIT_WRITE\",\"SETFCAP\"]");
    has(n, "HostConfig.SecurityOpt", "[\"no-new-privileges\"]");
    has(n, "HostConfig.PidsLimit", "512");
    has(n, "HostConfig.Init", "true");
    has(n, "HostConfig.Privileged", "false");
    has(n, "HostConfig.ReadonlyRootfs", "false");
    has(n, "HostConfig.AutoRemove", "false");
    has(n, "HostConfig.RestartPolicy.Name", "\"\"");
    has(n, "HostConfig.LogConfig",
        "{\"Type\":\"json-file\",\"Config\":{\"max-size\":\"10m\",\"max-file\":\"1\"}}");
    has(n, "HostConfig.NetworkMode", "\"net\"");
    has(n, "NetworkingConfig.EndpointsConfig", "{\"net\":{\"Aliases\":[\"a\"]}}");
    has(n, "Env", "[\"PORT=8080\"]");
    has(n, "ExposedPorts", "{\"8080/tcp\":{}}");
    ck_assert_ptr_null(json_path(n, "HostConfig.PortBindings")); /* nothing is published */
    ck_assert_ptr_null(json_get(n, "User"));
    ck_assert_ptr_null(json_path(n, "HostConfig.Memory"));
    json_free(n);
}
END_TEST

START_TEST(the_strict_profile)
{
    struct config_service s = plain_service();
    struct json *n;

    s.profile = CONFIG_PROFILE_STRICT;
    s.memory_bytes = 64 << 20;
    n = body_of(&s, &plain_ground, 8080);
    has(n, "HostConfig.CapDrop", "[\"ALL\"]");
    has(n, "HostConfig.ReadonlyRootfs", "true");
    has(n, "HostConfig.IpcMode", "\"private\"");
    has(n, "HostConfig.Memory", "67108864");
    has(n, "HostConfig.MemorySwap", "67108864");
    has(n, "HostConfig.Tmpfs", "{\"/tmp\":\"rw,noexec,nosuid,nodev,size=64m\"}");
    has(n, "HostConfig.Ulimits", "[{\"Name\":\"nofile\",\"Soft\":4096,\"Hard\":4096}]");
    has(n, "User", "\"65534:65534\"");
    json_free(n);
}
END_TEST

static struct config_strings list_of(char **items, size_t count)
{
    return (struct config_strings){items, count};
}

START_TEST(single_settings_override_the_profile)
{
    static char add[] = "CAP_NET_RAW", drop[] = "CHOWN", tmp[] = "/tmp:size=1m", user[] = "7",
                runtime[] = "crun", device[] = "/dev/null:/dev/x:r", runtime_env[] = "PORT=9";
    char *adds[] = {add}, *drops[] = {drop}, *tmps[] = {tmp}, *devices[] = {device},
         *envs[] = {runtime_env};
    struct config_service s = plain_service();
    struct json *n;

    s.cap_add = list_of(adds, 1);
    s.cap_drop = list_of(drops, 1);
    n = body_of(&s, &plain_ground, 80);
    has(n, "HostConfig.CapDrop", "[\"MKNOD\",\"AUDIT_WRITE\",\"SETFCAP\",\"CHOWN\"]");
    has(n, "HostConfig.CapAdd", "[\"CAP_NET_RAW\"]");
    json_free(n);
    s.profile = CONFIG_PROFILE_STRICT;
    s.tmpfs = list_of(tmps, 1);
    s.devices = list_of(devices, 1);
    s.env = list_of(envs, 1);
    s.user = user;
    s.runtime = runtime;
    s.read_only = s.init = CONFIG_FALSE;
    n = body_of(&s, &plain_ground, 80);
    has(n, "HostConfig.CapDrop", "[\"ALL\",\"CHOWN\"]");
    has(n, "HostConfig.Tmpfs", "{\"/tmp\":\"size=1m\"}");
    has(n, "HostConfig.ReadonlyRootfs", "false");
    has(n, "HostConfig.Init", "false");
    has(n, "HostConfig.Runtime", "\"crun\"");
    has(n, "HostConfig.Devices",
        "[{\"PathOnHost\":\"/dev/null\",\"PathInContainer\":\"/dev/x\","
        "\"CgroupPermissions\":\"r\"}]");
    has(n, "User", "\"7\"");
    has(n, "Env", "[\"PORT=9\"]"); /* the user's own PORT stands */
    json_free(n);
}
END_TEST

START_TEST(words_and_limits_are_passed_on)
{
    static char flag[] = "-c", script[] = "a \"b\"", init[] = "/init";
    char *command[] = {flag, script}, *entry[] = {init};
    struct config_service s = plain_service();
    struct json *n;

    s.command = list_of(command, 2);
    s.entrypoint = list_of(entry, 1);
    s.nano_cpus = 1500000000;
    n = body_of(&s, &plain_ground, 80);
    has(n, "Cmd", "[\"-c\",\"a \\\"b\\\"\"]");
    has(n, "Entrypoint", "[\"/init\"]");
    has(n, "HostConfig.NanoCpus", "1500000000");
    json_free(n);
}
END_TEST

START_TEST(labels_cannot_pretend_to_be_ours)
{
    static char a[] = "a=b\",\"x=y", b[] = "io.kipgate.owner=evil", c[] = "bare";
    char *labels[] = {a, b, c};
    struct config_service s = plain_service();
    struct json *n;

    s.labels = list_of(labels, 3);
    n = body_of(&s, &plain_ground, 80);
    ck_assert_str_eq(json_string(json_get(json_get(n, "Labels"), "a"), ""), "b\",\"x=y");
    ck_assert_ptr_null(strstr(printed(json_get(n, "Labels")), "evil"));
    json_free(n);
}
END_TEST

START_TEST(published_only_where_it_must_be)
{
    struct config_service s = plain_service();
    struct engine_ground g = plain_ground;
    struct json *n;

    g.reach = REACH_PUBLISHED;
    g.network = "bridge";
    g.init = g.json_file = false;
    n = body_of(&s, &g, 80);
    has(n, "HostConfig.PortBindings",
        "{\"80/tcp\":[{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"\"}]}");
    has(n, "HostConfig.Init", "false");
    ck_assert_ptr_null(json_path(n, "HostConfig.LogConfig"));
    ck_assert_ptr_null(json_get(n, "NetworkingConfig"));
    json_free(n);
}
END_TEST

START_TEST(a_socket_is_a_directory_of_the_hosts)
{
    static char volume[] = "/data:/data:ro", unnamed[] = "/cache";
    char *volumes[] = {volume, unnamed};
    static char socket[] = "/run/app/x.sock", root[] = "/x.sock";
    struct config_service s = plain_service();
    struct engine_ground g = plain_ground;
    struct engine_body b;
    struct kg_err err = {0};
    struct json *n;

    s.socket = socket;
    s.volumes = list_of(volumes, 2);
    g.socket_dir = "/state/sockets/1";
    n = body_of(&s, &g, 0);
    has(n, "HostConfig.Binds", "[\"/data:/data:ro\",\"/state/sockets/1:/run/app\"]");
    has(n, "Volumes", "{\"/cache\":{}}");
    has(n, "Env", "[]");
    json_free(n);
    s.socket = root; /* its directory cannot be replaced */
    ck_assert_int_eq(engine_body_begin(&b, &s, &g, &err), KG_EINVAL);
    engine_body_fini(&b);
    g.socket_dir = NULL; /* the engine is elsewhere */
    s.socket = socket;
    err.code = 0;
    ck_assert_int_eq(engine_body_begin(&b, &s, &g, &err), KG_EINVAL);
    engine_body_fini(&b);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, an_inspect_is_read);
    tcase_add_test(t, an_address_is_found_by_reach);
    tcase_add_test(t, states_are_known_or_dead);
    tcase_add_loop_test(t, odd_shapes_do_no_harm, 0, sizeof shapes / sizeof *shapes);
    tcase_add_loop_test(t, the_single_port, 0, sizeof ports / sizeof *ports);
    tcase_add_test(t, events_are_read);
    tcase_add_loop_test(t, other_events_are_passed_over, 0, sizeof ignored / sizeof *ignored);
    tcase_add_test(t, lines_come_out_however_they_are_split);
    tcase_add_test(t, a_line_that_is_too_long_is_passed_over);
    tcase_add_loop_test(t, a_status_means_what_the_table_says, 0, sizeof rows / sizeof *rows);
    tcase_add_test(t, whose_network_it_is_is_read);
    tcase_add_loop_test(t, a_joined_workers_port_is_read_but_no_address, 0,
                        sizeof joined / sizeof *joined);
    tcase_add_test(t, the_archive_holds_one_small_program);
    tcase_add_loop_test(t, memory_in_use_is_without_the_cache, 0, sizeof weights / sizeof *weights);
    tcase_add_test(t, words_are_cut_and_clean);
    tcase_add_test(t, a_missing_network_is_told_from_the_rest);
    tcase_add_test(t, ids_and_names_are_checked);
    tcase_add_loop_test(t, references_are_taken_apart, 0, sizeof references / sizeof *references);
    tcase_add_test(t, credentials_are_found_by_host);
    tcase_add_test(t, the_default_profile);
    tcase_add_test(t, the_strict_profile);
    tcase_add_test(t, single_settings_override_the_profile);
    tcase_add_test(t, words_and_limits_are_passed_on);
    tcase_add_test(t, labels_cannot_pretend_to_be_ours);
    tcase_add_test(t, published_only_where_it_must_be);
    tcase_add_test(t, a_socket_is_a_directory_of_the_hosts);
}

int main(void)
{
    Suite *s = suite_create("engine_parse");
    TCase *t = tcase_create("engine_parse");
    SRunner *r = srunner_create(s);
    int failed;

    suite_add_tcase(s, t);
    add_tests(t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
