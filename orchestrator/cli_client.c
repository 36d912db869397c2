/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that ask a running Kipgate through its admin API. The difficulty: what cannot be
 * reached, what was refused and what was misspelled are three things, and each is said. */
#include "orchestrator/cli_priv.h"
#include "orchestrator/config_priv.h"
#include "orchestrator/transport.h"
#include <stdio.h>
#include <stdlib.h>

#define CALL_TIMEOUT_MS 10000
#define MAX_LINE_BYTES (1024 * 1024)
#define MAX_JSON_DEPTH 32
#define COLUMNS 8
/* The admin API is asked by a name of this machine: another could be a web page's own, which a
 * browser was made to ask for, and is refused. */
#define HOST "Host: localhost"

struct client {
    const struct cli_command *command;
    const char *name; /* of the service */
    bool json, ready;
    struct transport_target target;
    char url[320], unix_path[KG_MAX_SOCKET_PATH_BYTES + 1];
};

/* --- what was asked for -------------------------------------------------------------------- */

static int misused(const struct client *c, const char *word, const char *words)
{
    fprintf(stderr, "kipgate %s: %s%s%s; kipgate --help tells more\n", c->command->name, word,
            *word ? ": " : "", words);
    return CLI_USAGE;
}

/* No service can have it, so none need be asked. */
static int misnamed(const struct client *c, const char *name)
{
    char words[160];

    snprintf(words, sizeof words, "the name %s", config_check_name(name));
    return misused(c, name, words);
}

/* Takes the command's own words, leaves the options that say where the admin API is. */
static int take_words(struct client *c, int argc, char **argv, char **left, int *left_count)
{
    unsigned wants = c->command->wants;

    for (int i = 0; i < argc; i++) {
        bool pair = strcmp(argv[i], "--admin") == 0 || strcmp(argv[i], "--config") == 0;
        if (wants & CLI_TAKES_JSON && strcmp(argv[i], "--json") == 0)
            c->json = true;
        else if (wants & CLI_TAKES_READY && strcmp(argv[i], "--ready") == 0)
            c->ready = true;
        else if (pair || strncmp(argv[i], "--admin=", 8) == 0 ||
                 strncmp(argv[i], "--config=", 9) == 0) {
            left[(*left_count)++] = argv[i];
            if (pair && i + 1 < argc)
                left[(*left_count)++] = argv[++i];
        } else if (argv[i][0] == '-') {
            return misused(c, argv[i], "unknown option");
        } else if (!(wants & CLI_WANTS_NAME) || c->name) {
            return misused(c, argv[i], "unexpected argument");
        } else if (config_check_name(argv[i])) {
            return misnamed(c, argv[i]);
        } else {
            c->name = argv[i];
        }
    }
    if (wants & CLI_WANTS_NAME && !c->name)
        return misused(c, "", "needs the name of a service");
    return CLI_FINE;
}

/* An address to listen on all interfaces is reached on loopback. */
static void set_target(struct client *c, const char *admin)
{
    const char *port = strrchr(admin, ':');

    c->target.url = c->url;
    if (strncmp(admin, "unix:", 5) == 0) {
        kg_str_copy(c->unix_path, sizeof c->unix_path, kg_str_of(admin + 5));
        c->target.unix_path = c->unix_path;
        snprintf(c->url, sizeof c->url, "http://localhost");
    } else if (strncmp(admin, "0.0.0.0:", 8) == 0) {
        snprintf(c->url, sizeof c->url, "http://127.0.0.1%s", port);
    } else if (strncmp(admin, "[::]:", 5) == 0) {
        snprintf(c->url, sizeof c->url, "http://[::1]%s", port);
    } else {
        snprintf(c->url, sizeof c->url, "http://%s", admin);
    }
}

static int find_admin(struct client *c, int argc, char **argv)
{
    struct config_errors errors = {0};
    char *admin = config_load_admin(argc, argv, &errors);
    int status = CLI_FINE;

    if (!admin) {
        fputs(errors.text.data ? errors.text.data : "out of memory\n", stderr);
        status = CLI_USAGE;
    } else if (strcmp(admin, "off") == 0) {
        fprintf(stderr, "kipgate %s: the admin API is off in this configuration\n",
                c->command->name);
        status = CLI_FAILED;
    } else {
        set_target(c, admin);
    }
    config_errors_fini(&errors);
    free(admin);
    return status;
}

/* --- calls --------------------------------------------------------------------------------- */

/* "urn:kipgate:REASON" with its detail, or what else came. */
static void tell_problem(const struct client *c, int status, const struct kg_buf *body)
{
    static const struct kg_str urn = {"urn:kipgate:", 12};
    struct json *n = json_parse(kg_buf_str(body), KG_LOCAL_BODY_BYTES, MAX_JSON_DEPTH, NULL, NULL);
    const char *type = json_string(json_get(n, "type"), "");

    if (kg_str_has_prefix(kg_str_of(type), urn))
        fprintf(stderr, "kipgate %s: %s%s%s: %s\n", c->command->name, c->name ? c->name : "",
                c->name ? ": " : "", type + urn.n, json_string(json_get(n, "detail"), ""));
    else
        fprintf(stderr, "kipgate %s: the admin API answered with status %d\n", c->command->name,
                status);
    json_free(n);
}

/* Whoever else listens at that address may have a page for every path. */
static int not_understood(const struct client *c)
{
    fprintf(stderr, "kipgate %s: the answer is not understood\n", c->command->name);
    return CLI_FAILED;
}

static bool is_json(const struct kg_buf *body, enum json_type wanted)
{
    struct json *n =
        json_parse(kg_buf_str(body), KG_ENGINE_MAX_ANSWER_BYTES, MAX_JSON_DEPTH, NULL, NULL);
    bool is = n && json_type(n) == wanted;

    json_free(n);
    return is;
}

/* The body of a 2xx answer, which must be of that type, goes into *out; everything else is told. */
static int call(const struct client *c, const char *method, const char *path, int64_t timeout_ms,
                enum json_type wanted, struct kg_buf *out)
{
    const struct transport_call asked = {.method = method,
                                         .path = path,
                                         .header = HOST,
                                         .timeout_ms = timeout_ms,
                                         .max_bytes = KG_ENGINE_MAX_ANSWER_BYTES};
    struct kg_err err = {0};
    int status = 0;

    if (transport_call_once(&c->target, &asked, out, &status, &err) != 0) {
        fprintf(stderr, "kipgate %s: %s\n", c->command->name, err.words);
        return CLI_FAILED;
    }
    if (status >= 200 && status <= 299)
        return is_json(out, wanted) ? CLI_FINE : not_understood(c);
    tell_problem(c, status, out);
    return CLI_FAILED;
}

/* --- ps ------------------------------------------------------------------------------------ */

struct row {
    char cells[COLUMNS][128];
};
struct table {
    struct row *rows;
    size_t count;
    size_t widths[COLUMNS];
};

static struct row *add_row(struct table *t)
{
    struct row *more = realloc(t->rows, (t->count + 1) * sizeof *more);

    if (!more)
        return NULL;
    t->rows = more;
    t->rows[t->count] = (struct row){{""}};
    return &t->rows[t->count++];
}

static void set_cell(struct row *r, size_t column, const char *text)
{
    snprintf(r->cells[column], sizeof r->cells[column], "%s", text);
}

static void set_seconds(struct row *r, size_t column, const struct json *n)
{
    if (json_type(n) == JSON_NUMBER)
        snprintf(r->cells[column], sizeof r->cells[column], "%.1fs", json_number(n, 0));
    else
        set_cell(r, column, "-");
}

static bool add_instance(struct table *t, const char *service, const char *why,
                         const struct json *i)
{
    struct row *r = add_row(t);

    if (!r)
        return false;
    set_cell(r, 0, service);
    set_cell(r, 1, json_string(json_get(i, "name"), "-"));
    set_cell(r, 2, json_string(json_get(i, "state"), "-"));
    set_cell(r, 3, json_string(json_get(i, "address"), "-"));
    snprintf(r->cells[4], sizeof r->cells[4], "%.0f", json_number(json_get(i, "exchanges"), 0));
    set_seconds(r, 5, json_get(i, "idle_seconds"));
    set_seconds(r, 6, json_get(i, "reap_in_seconds"));
    set_cell(r, 7, why);
    return true;
}

static bool add_service(struct table *t, const struct json *s)
{
    static const struct {
        size_t column;
        const char *text;
    } asleep[] = {{1, "-"}, {2, "absent"}, {3, "-"}, {4, "0"}, {5, "-"}, {6, "-"}};
    const char *why = json_string(json_get(json_get(s, "idle"), "reason"), "-");
    const char *name = json_string(json_get(s, "name"), "?");
    const struct json *instances = json_get(s, "instances");
    bool good = true;
    struct row *r;

    for (const struct json *i = json_first(instances); i; i = json_next(i))
        good &= add_instance(t, name, why, i);
    if (json_count(instances) > 0)
        return good;
    r = add_row(t);
    if (r)
        set_cell(r, 0, name);
    if (r)
        set_cell(r, 7, why);
    for (size_t i = 0; r && i < sizeof asleep / sizeof *asleep; i++)
        set_cell(r, asleep[i].column, asleep[i].text);
    return r != NULL;
}

static void print_table(struct table *t)
{
    for (size_t i = 0; i < t->count; i++)
        for (size_t k = 0; k < COLUMNS; k++)
            if (strlen(t->rows[i].cells[k]) > t->widths[k])
                t->widths[k] = strlen(t->rows[i].cells[k]);
    for (size_t i = 0; i < t->count; i++) {
        for (size_t k = 0; k + 1 < COLUMNS; k++)
            printf("%-*s  ", (int)t->widths[k], t->rows[i].cells[k]);
        printf("%s\n", t->rows[i].cells[COLUMNS - 1]);
    }
}

static int print_services(const struct client *c, const struct kg_buf *body)
{
    static const char *const titles[COLUMNS] = {"SERVICE",   "INSTANCE", "STATE",   "ADDRESS",
                                                "EXCHANGES", "IDLE",     "REAP-IN", "WHY"};
    struct json *all =
        json_parse(kg_buf_str(body), KG_ENGINE_MAX_ANSWER_BYTES, MAX_JSON_DEPTH, NULL, NULL);
    struct table t = {NULL, 0, {0}};
    struct row *r = all ? add_row(&t) : NULL;
    bool good = r != NULL;

    for (size_t k = 0; r && k < COLUMNS; k++)
        set_cell(r, k, titles[k]);
    for (const struct json *s = json_first(all); s && good; s = json_next(s))
        good = add_service(&t, s);
    if (good)
        print_table(&t);
    free(t.rows);
    json_free(all);
    return good ? CLI_FINE : not_understood(c);
}

static int run_ps(struct client *c)
{
    struct kg_buf body;
    int status;

    kg_buf_init(&body, KG_ENGINE_MAX_ANSWER_BYTES);
    status = call(c, "GET", "/v1/services", CALL_TIMEOUT_MS, JSON_ARRAY, &body);
    if (status == CLI_FINE && c->json)
        fputs(body.data ? body.data : "", stdout);
    else if (status == CLI_FINE)
        status = print_services(c, &body);
    kg_buf_fini(&body);
    return status == CLI_FINE ? cli_written(true) : status;
}

/* --- wake, sleep, health ------------------------------------------------------------------- */

/* No deadline of ours: a pull may take long, and who asked can leave. */
static int run_by_name(struct client *c)
{
    struct kg_buf path, body;
    int status = CLI_FAILED;

    kg_buf_init(&path, MAX_LINE_BYTES);
    kg_buf_init(&body, KG_ENGINE_MAX_ANSWER_BYTES);
    kg_buf_puts(&path, "/v1/services/");
    transport_escape(&path, c->name);
    kg_buf_printf(&path, "/%s", c->command->name);
    if (path.error == 0)
        status = call(c, "POST", path.data, 0, JSON_OBJECT, &body);
    kg_buf_fini(&path);
    kg_buf_fini(&body);
    return status;
}

static int run_health(struct client *c)
{
    struct kg_buf body;
    int status;

    kg_buf_init(&body, KG_ENGINE_MAX_ANSWER_BYTES);
    status = call(c, "GET", c->ready ? "/readyz" : "/healthz", CALL_TIMEOUT_MS, JSON_OBJECT, &body);
    kg_buf_fini(&body);
    return status;
}

/* --- events -------------------------------------------------------------------------------- */

struct follow {
    const struct client *client;
    struct kg_buf line;
    struct kg_buf said; /* the beginning, where a refusal is */
};

/* One value as a word: bare where it can be, else quoted. */
static void put_value(struct kg_buf *out, const struct json *n)
{
    const char *text = json_string(n, NULL);
    bool bare = text && *text && !strpbrk(text, " \t\r\n\"\\=");

    if (json_type(n) == JSON_NUMBER) {
        kg_buf_printf(out, "%.10g", json_number(n, 0));
        return;
    }
    kg_buf_puts(out, bare ? "" : "\"");
    kg_json_escape(out, kg_str_of(text ? text : ""));
    kg_buf_puts(out, bare ? "" : "\"");
}

/* {"time":T,"event":E,"service":S,...} as "T E service=S ...". */
static void print_event(struct kg_str data)
{
    struct json *n = json_parse(data, MAX_LINE_BYTES, MAX_JSON_DEPTH, NULL, NULL);
    struct kg_buf out;

    kg_buf_init(&out, MAX_LINE_BYTES);
    for (const struct json *m = json_first(n); m; m = json_next(m)) {
        const char *key = json_key(m);
        kg_buf_puts(&out, out.len ? " " : "");
        if (strcmp(key, "time") != 0 && strcmp(key, "event") != 0)
            kg_buf_printf(&out, "%s=", key);
        put_value(&out, m);
    }
    if (out.len > 0 && !out.error)
        printf("%s\n", out.data);
    kg_buf_fini(&out);
    json_free(n);
}

static void on_event_line(const struct follow *f)
{
    static const struct kg_str prefix = {"data:", 5};
    struct kg_str s = kg_buf_str(&f->line);

    if (!kg_str_has_prefix(s, prefix))
        return;
    s = kg_str_trim((struct kg_str){s.p + prefix.n, s.n - prefix.n});
    if (f->client->json)
        printf("%.*s\n", (int)s.n, s.p);
    else
        print_event(s);
}

static void on_event_bytes(void *arg, struct kg_str bytes)
{
    struct follow *f = arg;

    kg_buf_append(&f->said, bytes.p, bytes.n);
    for (size_t i = 0; i < bytes.n; i++) {
        if (bytes.p[i] != '\n') {
            kg_buf_append(&f->line, bytes.p + i, 1);
            continue;
        }
        if (!f->line.error)
            on_event_line(f);
        kg_buf_clear(&f->line);
    }
    if (cli_written(true) != CLI_FINE)
        exit(CLI_FAILED); /* nobody reads it any more, and there may be no signal that says so */
}

static int run_events(struct client *c)
{
    struct follow f = {.client = c};
    const struct transport_call asked = {.method = "GET",
                                         .path = "/v1/events",
                                         .header = HOST,
                                         .on_data = on_event_bytes,
                                         .arg = &f};
    struct kg_err err = {0};
    int status = 0, code;

    kg_buf_init(&f.line, MAX_LINE_BYTES);
    kg_buf_init(&f.said, KG_LOCAL_BODY_BYTES);
    code = transport_call_once(&c->target, &asked, NULL, &status, &err);
    kg_buf_fini(&f.line);
    if (code != 0)
        fprintf(stderr, "kipgate events: %s\n", err.words);
    else if (status == 200)
        fprintf(stderr, "kipgate events: Kipgate ended the stream\n");
    else
        tell_problem(c, status, &f.said);
    kg_buf_fini(&f.said);
    return CLI_FAILED; /* it ends by interruption only */
}

int cli_run_client(const struct cli_command *command, int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(struct client *c);
    } runs[] = {{"ps", run_ps},
                {"wake", run_by_name},
                {"sleep", run_by_name},
                {"events", run_events},
                {"health", run_health}};
    struct client c = {.command = command};
    char **left = calloc((size_t)argc + 1, sizeof *left);
    int status = left ? CLI_FINE : CLI_FAILED, left_count = 0;

    if (status == CLI_FINE)
        status = take_words(&c, argc, argv, left, &left_count);
    if (status == CLI_FINE)
        status = find_admin(&c, left_count, left);
    free(left);
    for (size_t i = 0; status == CLI_FINE && i < sizeof runs / sizeof *runs; i++)
        if (strcmp(command->name, runs[i].name) == 0)
            return runs[i].run(&c);
    return status;
}
