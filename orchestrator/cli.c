/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that speak to a running Kipgate, and those that speak to nobody. The difficulty:
 * they find the admin API by the same configuration as the server, without needing all of it to be
 * right. */
#include "orchestrator/cli.h"
#include "orchestrator/config_priv.h"
#include "orchestrator/transport.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_FINE 0
#define EXIT_FAILED 1
#define EXIT_USAGE 2
#define NOT_OURS (-1)
#define CALL_TIMEOUT_MS 10000
#define WAKE_TIMEOUT_MS 900000 /* a pull may be part of it */

struct admin_at { /* where the admin API is, from --admin or the configuration */
    struct transport_target target;
    char url[300];
    char path[300];
};

static const char usage[] =
    "Usage:\n"
    "  kipgate [serve] [OPTIONS]     run the front (the default command)\n"
    "  kipgate check [OPTIONS]       validate the configuration, print the effective one\n"
    "  kipgate check --schema        print the JSON Schema of the file\n"
    "  kipgate ps [--json]           services and instances\n"
    "  kipgate wake NAME             provision now, return when ready\n"
    "  kipgate sleep NAME            drain and remove now\n"
    "  kipgate events                follow what happens, one line per event\n"
    "  kipgate health [--ready]      exit 0 when alive (ready)\n"
    "  kipgate version\n"
    "\n"
    "  kipgate --image IMAGE --port N    is all that one service needs\n"
    "\n"
    "Durations: 250ms 30s 5m 1h. Sizes: 64KiB 512MiB. Lists: repeat the option.\n"
    "Precedence: file < environment < option. Exit: 0 fine, 1 failed, 2 usage or configuration.\n"
    "\n";

static int print_help(void)
{
    struct kg_buf out;

    kg_buf_init(&out, 256 * 1024);
    kg_buf_puts(&out, usage);
    kg_buf_puts(&out, "Options (each also a key of the file, and KIPGATE_SOME_KEY):\n");
    config_print_options(&out, config_top_keys, 96);
    kg_buf_puts(&out, "\nOne service by options:\n");
    config_print_options(&out, config_service_keys, 96);
    fputs(out.data ? out.data : usage, stdout);
    kg_buf_fini(&out);
    return EXIT_FINE;
}

static int complain(const char *command, const char *words)
{
    fprintf(stderr, "kipgate %s: %s\n", command, words);
    return EXIT_USAGE;
}

/* --- check
 * -------------------------------------------------------------------------------------------- */

static int run_check(int argc, char **argv)
{
    struct config_errors errors = {0};
    struct config *c;
    struct kg_buf out;

    kg_buf_init(&out, KG_MAX_CONFIG_BYTES);
    if (argc == 1 && strcmp(argv[0], "--schema") == 0) {
        config_print_schema(&out);
        fputs(out.data, stdout);
        kg_buf_fini(&out);
        return EXIT_FINE;
    }
    kg_buf_init(&errors.text, KG_MAX_CONFIG_BYTES);
    c = config_load(argc, argv, &errors);
    if (c) {
        config_print(c, &out);
        fputs(out.data ? out.data : "", stdout);
        kg_buf_clear(&out);
        config_print_loosened(c, &out);
        fputs(out.data && out.len ? out.data : "", stderr);
    } else {
        fputs(errors.text.data ? errors.text.data : "", stderr);
    }
    kg_buf_fini(&out);
    config_errors_fini(&errors);
    config_free(c);
    return c ? EXIT_FINE : EXIT_USAGE;
}

/* --- the admin API as a client
 * --------------------------------------------------------------------------- */

/* Addresses that mean "all" are reached on loopback. */
static void set_address(struct admin_at *at, const char *admin)
{
    if (strncmp(admin, "unix:", 5) == 0) {
        snprintf(at->path, sizeof at->path, "%s", admin + 5);
        snprintf(at->url, sizeof at->url, "http://localhost");
        at->target = (struct transport_target){.url = at->url, .unix_path = at->path};
        return;
    }
    if (strncmp(admin, "0.0.0.0:", 8) == 0)
        snprintf(at->url, sizeof at->url, "http://127.0.0.1:%s", admin + 8);
    else
        snprintf(at->url, sizeof at->url, "http://%s", admin);
    at->target = (struct transport_target){.url = at->url};
}

/* --admin, else the configuration. The configuration is loaded as the server would, but its errors
 * do not matter here as long as the address is known. */
static bool find_admin(int argc, char **argv, struct admin_at *at)
{
    struct config_errors errors = {0};
    const char *variable = getenv("KIPGATE_ADMIN");
    struct config *c;
    bool off;

    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "--admin=", 8) == 0)
            variable = argv[i] + 8;
        else if (strcmp(argv[i], "--admin") == 0 && i + 1 < argc)
            variable = argv[i + 1];
    }
    if (variable) {
        set_address(at, variable);
        return true;
    }
    kg_buf_init(&errors.text, KG_MAX_CONFIG_BYTES);
    c = config_load(argc, argv, &errors);
    set_address(at, c ? c->admin : "127.0.0.1:9090");
    off = c && strcmp(c->admin, "off") == 0;
    config_errors_fini(&errors);
    config_free(c);
    return !off;
}

/* The "detail" (or "title") of a problem answer. */
static void print_problem(const char *command, int status, const struct kg_buf *body)
{
    struct json *n = json_parse(kg_buf_str(body), KG_ENGINE_MAX_ANSWER_BYTES, 16, NULL, NULL);
    const char *detail = json_string(json_get(n, "detail"), "");
    const char *title = json_string(json_get(n, "title"), "failed");

    fprintf(stderr, "kipgate %s: %s%s%s (%d)\n", command, title, detail[0] ? ": " : "", detail,
            status);
    json_free(n);
}

/* 0 with the body in *out, or an exit status, the cause having been said. */
static int call(const char *command, const struct admin_at *at, const char *method,
                const char *path, int64_t timeout_ms, struct kg_buf *out)
{
    struct transport_call ask = {.method = method,
                                 .path = path,
                                 .timeout_ms = timeout_ms,
                                 .max_bytes = KG_ENGINE_MAX_ANSWER_BYTES};
    struct kg_err err = {0};
    int status = 0;

    if (transport_call_once(&at->target, &ask, out, &status, &err) != 0) {
        fprintf(stderr, "kipgate %s: %s\n", command, err.words);
        return EXIT_FAILED;
    }
    if (status >= 200 && status < 300)
        return EXIT_FINE;
    print_problem(command, status, out);
    return EXIT_FAILED;
}

static void print_instance(const char *service, const struct json *i)
{
    const struct json *reap = json_get(i, "reap_in_seconds");
    char reap_in[32] = "-";

    if (json_type(reap) == JSON_NUMBER)
        snprintf(reap_in, sizeof reap_in, "%.1fs", json_number(reap, 0));
    printf("%-20s %-32s %-10s %-22s %9.0f %8.1fs %9s\n", service,
           json_string(json_get(i, "name"), ""), json_string(json_get(i, "state"), ""),
           json_string(json_get(i, "address"), ""), json_number(json_get(i, "exchanges"), 0),
           json_number(json_get(i, "idle_seconds"), 0), reap_in);
}

static void print_table(const struct json *services)
{
    printf("%-20s %-32s %-10s %-22s %9s %9s %9s\n", "SERVICE", "INSTANCE", "STATE", "ADDRESS",
           "EXCHANGES", "IDLE", "REAP-IN");
    for (const struct json *s = json_first(services); s; s = json_next(s)) {
        const char *name = json_string(json_get(s, "name"), "");
        const struct json *instances = json_get(s, "instances");
        if (json_count(instances) == 0)
            printf("%-20s -\n", name);
        for (const struct json *i = json_first(instances); i; i = json_next(i))
            print_instance(name, i);
    }
}

static int run_ps(const struct admin_at *at, bool as_json)
{
    struct kg_buf out;
    struct json *n;
    int rc;

    kg_buf_init(&out, KG_ENGINE_MAX_ANSWER_BYTES);
    rc = call("ps", at, "GET", "/v1/services", CALL_TIMEOUT_MS, &out);
    if (rc == EXIT_FINE && as_json)
        fputs(out.data ? out.data : "", stdout);
    else if (rc == EXIT_FINE) {
        n = json_parse(kg_buf_str(&out), KG_ENGINE_MAX_ANSWER_BYTES, 64, NULL, NULL);
        print_table(n);
        json_free(n);
    }
    kg_buf_fini(&out);
    return rc;
}

static int run_by_name(const struct admin_at *at, const char *command, const char *name)
{
    struct kg_buf out, path;
    int rc;

    kg_buf_init(&out, KG_ENGINE_MAX_ANSWER_BYTES);
    kg_buf_init(&path, 1024);
    kg_buf_puts(&path, "/v1/services/");
    transport_escape(&path, name);
    kg_buf_printf(&path, "/%s", command);
    rc = call(command, at, "POST", path.data ? path.data : "", WAKE_TIMEOUT_MS, &out);
    kg_buf_fini(&path);
    kg_buf_fini(&out);
    return rc;
}

/* "data: {...}" lines become lines of output as they come. */
static void on_event_bytes(void *arg, struct kg_str bytes)
{
    struct kg_buf *line = arg;
    struct kg_str data = KG_STR("data: ");

    for (size_t i = 0; i < bytes.n; i++) {
        if (bytes.p[i] != '\n') {
            kg_buf_append(line, bytes.p + i, 1);
            continue;
        }
        if (kg_str_has_prefix(kg_buf_str(line), data))
            printf("%s\n", line->data + data.n);
        kg_buf_clear(line);
    }
    fflush(stdout);
}

static int run_events(const struct admin_at *at)
{
    struct kg_buf line;
    struct transport_call ask = {.method = "GET", .path = "/v1/events", .on_data = on_event_bytes};
    struct kg_err err = {0};
    int status = 0, rc;

    kg_buf_init(&line, 1024 * 1024);
    ask.arg = &line;
    rc = transport_call_once(&at->target, &ask, NULL, &status, &err);
    kg_buf_fini(&line);
    if (rc == 0 && status == 200)
        return EXIT_FINE;
    fprintf(stderr, "kipgate events: %s\n", rc ? err.words : "refused");
    return EXIT_FAILED;
}

static int run_health(const struct admin_at *at, bool ready)
{
    struct kg_buf out;
    int rc;

    kg_buf_init(&out, KG_ENGINE_MAX_ANSWER_BYTES);
    rc = call("health", at, "GET", ready ? "/readyz" : "/healthz", CALL_TIMEOUT_MS, &out);
    kg_buf_fini(&out);
    return rc;
}

/* --- which command
 * ----------------------------------------------------------------------------------------- */

static bool has(int argc, char **argv, const char *word)
{
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], word) == 0)
            return true;
    return false;
}

/* The words that are no options of the command itself: those the configuration knows. */
static int without(int argc, char **argv, const char *word, char **out)
{
    int n = 0;

    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], word) != 0)
            out[n++] = argv[i];
    return n;
}

static bool only_known(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        bool pair = strcmp(argv[i], "--admin") == 0 || strcmp(argv[i], "--config") == 0;
        if (pair && i + 1 < argc)
            i++;
        else if (strncmp(argv[i], "--admin=", 8) != 0 && strncmp(argv[i], "--config=", 9) != 0)
            return false;
    }
    return true;
}

static int run_client(const char *command, int argc, char **argv)
{
    bool ps = strcmp(command, "ps") == 0, health = strcmp(command, "health") == 0;
    const char *own = ps ? "--json" : health ? "--ready" : "";
    bool by_name = strcmp(command, "wake") == 0 || strcmp(command, "sleep") == 0;
    bool flag = own[0] && has(argc, argv, own);
    char *left[64];
    struct admin_at at;
    int n;

    if (by_name && (argc == 0 || argv[0][0] == '-'))
        return complain(command, "which service? kipgate wake NAME");
    if (argc > 64)
        return complain(command, "too many words");
    n = without(argc - by_name, argv + by_name, own, left);
    if (!only_known(n, left))
        return complain(command, "unknown option; --admin and --config are known");
    if (!find_admin(n, left, &at)) {
        fprintf(stderr, "kipgate %s: the admin API is off\n", command);
        return EXIT_FAILED;
    }
    if (ps)
        return run_ps(&at, flag);
    if (health)
        return run_health(&at, flag);
    return by_name ? run_by_name(&at, command, argv[0]) : run_events(&at);
}

int cli_options_at(int argc, char **argv)
{
    return argc > 1 && strcmp(argv[1], "serve") == 0 ? 2 : argc > 1 ? 1 : argc;
}

int cli_run(int argc, char **argv)
{
    static const char *const clients[] = {"ps", "wake", "sleep", "events", "health"};
    const char *command = argc > 1 ? argv[1] : "serve";

    if (has(argc, argv, "--help") || has(argc, argv, "-h") || strcmp(command, "help") == 0)
        return print_help();
    if (strcmp(command, "version") == 0 || strcmp(command, "--version") == 0) {
        printf("kipgate %s\n", KIPGATE_VERSION);
        return EXIT_FINE;
    }
    if (strcmp(command, "check") == 0)
        return run_check(argc - 2, argv + 2);
    for (size_t i = 0; i < sizeof clients / sizeof *clients; i++)
        if (strcmp(command, clients[i]) == 0)
            return run_client(command, argc - 2, argv + 2);
    if (strcmp(command, "serve") == 0 || command[0] == '-')
        return NOT_OURS;
    fprintf(stderr, "kipgate: \"%s\" is no command; see kipgate --help\n", command);
    return EXIT_USAGE;
}
