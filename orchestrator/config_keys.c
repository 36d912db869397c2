/* SPDX-License-Identifier: Apache-2.0 */
/* The records of all keys. The difficulty: each line is a promise to users five times over (file,
 * environment, flag, help, schema). */
#include "orchestrator/config_priv.h"
#include <inttypes.h>

#define DAY_MS (24 * 3600000ll)
#define MINUTE_MS 60000ll
#define YEAR_MS (365 * DAY_MS)
#define MIB (1024ll * 1024)
#define TIB (MIB * MIB)
#define MAX_PATH_BYTES 4095
#define MAX_TEXT_BYTES (128 * 1024) /* what the kernel takes as one argument */
#define MAX_ITEMS 4096

#define TOP(field) .offset = offsetof(struct config, field)
#define SVC(field) .offset = offsetof(struct config_service, field)
#define MAX_SCALE 1024
#define MAX_SANDBOXES 64

const struct config_key config_top_keys[] = {
    {.name = "listen",
     .type = CONFIG_STRINGS,
     TOP(listen),
     .min = 1,
     .max = KG_MAX_LISTEN,
     .def = "0.0.0.0:8080",
     .check = config_check_listen,
     .flags = CONFIG_FIXED,
     .meta = "ADDRESS",
     .words =
         "Addresses of the front: host:port, [v6]:port, https://host:port (TLS) or unix:/path; "
         "sockets passed by systemd come instead, in this order"},
    {.name = "certificates",
     .type = CONFIG_CERTIFICATES,
     TOP(certificates),
     .max = KG_MAX_CERTIFICATES,
     .meta = "CERTIFICATE:KEY[:OCSP]",
     .def_words = "none",
     .words = "Files for https:// addresses: {\"certificate\": PATH, \"key\": PATH} in PEM form, "
              "with \"ocsp\": PATH a response in DER form; the name that a client asks for "
              "chooses, else the first"},
    {.name = "client_ca",
     .type = CONFIG_STRING,
     TOP(client_ca),
     .max = MAX_PATH_BYTES,
     .check = config_check_path,
     .meta = "FILE",
     .def_words = "clients need none",
     .words = "Who signs clients' certificates (PEM): without one no client gets through an "
              "https:// address"},
    {.name = "protocols",
     .type = CONFIG_STRINGS,
     TOP(protocols),
     .min = 1,
     .max = 3,
     .def = "[\"h2\", \"http/1.1\"]",
     .check = config_check_protocol,
     .flags = CONFIG_FIXED | CONFIG_UNIQUE,
     .meta = "PROTOCOL",
     .words = "What clients may speak: h2 and http/1.1 by TLS, where they agree on one; h2c is "
              "HTTP/2 without TLS"},
    {.name = "admin",
     .type = CONFIG_STRING,
     TOP(admin),
     .max = MAX_PATH_BYTES,
     .def = "127.0.0.1:9090",
     .check = config_check_admin,
     .flags = CONFIG_FIXED,
     .meta = "ADDRESS",
     .words = "Address of the admin API and the metrics, or \"off\""},
    {.name = "engine",
     .type = CONFIG_STRING,
     TOP(engine),
     .max = MAX_PATH_BYTES,
     .check = config_check_engine,
     .flags = CONFIG_FIXED,
     .meta = "URL",
     .def_words = "DOCKER_HOST, else unix:///var/run/docker.sock",
     .words = "The Docker Engine API: unix:///path or tcp://host:port (TLS by DOCKER_TLS_VERIFY "
              "and DOCKER_CERT_PATH)"},
    {.name = "owner",
     .type = CONFIG_STRING,
     TOP(owner),
     .max = 64,
     .check = config_check_owner,
     .flags = CONFIG_FIXED,
     .meta = "NAME",
     .def_words = "made once, kept in state_dir",
     .words = "Value of the label io.kipgate.owner on all that we create"},
    {.name = "state_dir",
     .type = CONFIG_STRING,
     TOP(state_dir),
     .max = 200,
     .check = config_check_state_dir,
     .flags = CONFIG_FIXED,
     .meta = "DIRECTORY",
     .def_words = "$STATE_DIRECTORY, /var/lib/kipgate or $XDG_STATE_HOME/kipgate",
     .words = "Where the owner's name, the key of its containers and the idle clocks are kept"},
    {.name = "fronts",
     .type = CONFIG_INT,
     TOP(fronts),
     .min = 1,
     .max = KG_MAX_FRONTS,
     .flags = CONFIG_FIXED,
     .meta = "N",
     .def_words = "one per core",
     .words = "Front processes"},
    {.name = "max_starts",
     .type = CONFIG_INT,
     TOP(max_starts),
     .min = 1,
     .max = 1024,
     .flags = CONFIG_FIXED,
     .meta = "N",
     .def_words = "two per core",
     .words = "Engine starts in flight at once"},
    {.name = "sandboxes",
     .type = CONFIG_INT,
     TOP(sandboxes),
     .min = 1,
     .max = MAX_SANDBOXES,
     .def = "auto",
     .none = "auto|off",
     .none_value = -1,
     .meta = "N|auto|off",
     .words = "Network namespaces parked ahead of starts, at most; auto: as recent starts need, "
              "and none where the engine gains nothing by it"},
    {.name = "paused_memory",
     .type = CONFIG_SIZE,
     TOP(paused_memory_bytes),
     .min = 0,
     .max = 1024 * TIB,
     .def = "none",
     .none = "none",
     .none_value = -1,
     .meta = "SIZE",
     .words = "Memory that all paused instances may hold together; the least valuable go first"},
    {.name = "max_connections_per_client",
     .type = CONFIG_INT,
     TOP(max_connections_per_client),
     .min = 0,
     .max = 1000000,
     .def = "0",
     .flags = CONFIG_FIXED,
     .meta = "N",
     .words = "Connections that one client address may hold in each front; 0 = no cap"},
    {.name = "drain_timeout",
     .type = CONFIG_DURATION,
     TOP(drain_timeout_ms),
     .min = 0,
     .max = DAY_MS,
     .def = "30s",
     .meta = "DURATION",
     .words = "How long open exchanges may take to end once Kipgate goes down"},
    {.name = "log_level",
     .type = CONFIG_WORD,
     TOP(log_level),
     .def = "info",
     .choices = "debug|info|warn|error",
     .flags = CONFIG_FIXED,
     .meta = "LEVEL",
     .words = "The least that is logged to standard error"},
    {.name = "log_format",
     .type = CONFIG_WORD,
     TOP(log_format),
     .choices = "text|json",
     .flags = CONFIG_FIXED,
     .meta = "FORMAT",
     .def_words = "text on a terminal, else json",
     .words = "The form of log lines"},
    {.name = "access_log",
     .type = CONFIG_STRING,
     TOP(access_log),
     .max = MAX_PATH_BYTES,
     .def = "off",
     .check = config_check_path,
     .flags = CONFIG_FIXED,
     .meta = "FILE",
     .words = "One JSON line per request into this file or named pipe, which stays open; \"-\" is "
              "standard output, \"off\" none"},
    {.name = "remove_on_exit",
     .type = CONFIG_BOOL,
     TOP(remove_on_exit),
     .def = "false",
     .words = "Remove all instances when Kipgate ends, instead of leaving them to the next start"},
    {.name = NULL},
};

const struct config_key config_service_keys[] = {
    {.name = "image",
     .type = CONFIG_STRING,
     SVC(image),
     .max = 512,
     .check = config_check_image,
     .flags = CONFIG_IN_SPEC,
     .meta = "IMAGE",
     .def_words = "none: required",
     .words = "The image: a reference or a digest"},
    {.name = "command",
     .type = CONFIG_STRINGS,
     SVC(command),
     .max = MAX_ITEMS,
     .flags = CONFIG_IN_SPEC,
     .meta = "WORD",
     .def_words = "the image's",
     .words = "Command of the container, one word per item"},
    {.name = "entrypoint",
     .type = CONFIG_STRINGS,
     SVC(entrypoint),
     .max = MAX_ITEMS,
     .flags = CONFIG_IN_SPEC,
     .meta = "WORD",
     .def_words = "the image's",
     .words = "Entry point of the container, one word per item"},
    {.name = "env",
     .type = CONFIG_PAIRS,
     SVC(env),
     .max = MAX_ITEMS,
     .check = config_check_env,
     .flags = CONFIG_IN_SPEC,
     .meta = "NAME=VALUE",
     .def_words = "the image's",
     .words = "Variables of the container's environment"},
    {.name = "labels",
     .type = CONFIG_PAIRS,
     SVC(labels),
     .max = MAX_ITEMS,
     .check = config_check_label,
     .flags = CONFIG_IN_SPEC | CONFIG_UNIQUE,
     .meta = "NAME=VALUE",
     .def_words = "the image's",
     .words = "Labels of the container; names under io.kipgate. are Kipgate's own"},
    {.name = "volumes",
     .type = CONFIG_STRINGS,
     SVC(volumes),
     .max = MAX_ITEMS,
     .check = config_check_volume,
     .flags = CONFIG_IN_SPEC,
     .meta = "SOURCE:TARGET",
     .def_words = "none",
     .words = "What is mounted: /host/path:/path or volume:/path, with :ro to forbid writing"},
    {.name = "user",
     .type = CONFIG_STRING,
     SVC(user),
     .max = 255,
     .check = config_check_word,
     .flags = CONFIG_IN_SPEC,
     .meta = "USER",
     .def_words = "the image's",
     .words = "User that the worker runs as: name or number, with :GROUP"},
    {.name = "port",
     .type = CONFIG_INT,
     SVC(port),
     .min = 1,
     .max = 65535,
     .flags = CONFIG_IN_SPEC,
     .meta = "N",
     .def_words = "the image's single exposed TCP port",
     .words = "Port that the worker listens on; it is told as PORT too"},
    {.name = "socket",
     .type = CONFIG_STRING,
     SVC(socket),
     .max = KG_MAX_SOCKET_PATH_BYTES,
     .check = config_check_socket,
     .flags = CONFIG_IN_SPEC,
     .meta = "PATH",
     .def_words = "off",
     .words = "Unix socket that the worker listens on instead of a port"},
    {.name = "routes",
     .type = CONFIG_ROUTES,
     SVC(routes),
     .min = 1,
     .max = KG_MAX_ROUTES,
     .meta = "ROUTE",
     .def_words = "/ when it is the only service, none when another needs it, else required",
     .words = "What is served: /prefix, host.name, host.name/prefix or *.host.name; the longest "
              "match wins"},
    {.name = "strip_prefix",
     .type = CONFIG_BOOL,
     SVC(strip_prefix),
     .def = "false",
     .words = "Cut the route's prefix off the path that the worker sees"},
    {.name = "protocol",
     .type = CONFIG_WORD,
     SVC(protocol),
     .def = "http/1.1",
     .choices = "http/1.1|h2c",
     .meta = "PROTOCOL",
     .words = "What the worker speaks; h2c is HTTP/2 without TLS, by prior knowledge"},
    {.name = "needs",
     .type = CONFIG_STRINGS,
     SVC(needs),
     .max = 64,
     .check = config_check_name,
     .flags = CONFIG_UNIQUE,
     .meta = "NAME",
     .def_words = "none",
     .words = "Services that are ready before this one starts, and kept while it is in use"},
    {.name = "idle_timeout",
     .type = CONFIG_DURATION,
     SVC(idle_timeout_ms),
     .min = 10,
     .max = YEAR_MS,
     .def = "5m",
     .none = "auto",
     .none_value = 5 * MINUTE_MS,
     .none_flag = offsetof(struct config_service, idle_auto),
     .meta = "DURATION|auto",
     .words = "From the end of the last exchange to on_idle; auto: as the service's past idle "
              "times tell, 5m until enough are known"},
    {.name = "idle_min",
     .type = CONFIG_DURATION,
     SVC(idle_min_ms),
     .min = 10,
     .max = YEAR_MS,
     .meta = "DURATION",
     .def_words = "1m, or idle_max if that is less",
     .words = "The shortest that idle_timeout \"auto\" may choose"},
    {.name = "idle_max",
     .type = CONFIG_DURATION,
     SVC(idle_max_ms),
     .min = 10,
     .max = YEAR_MS,
     .meta = "DURATION",
     .def_words = "1h, or idle_min if that is more",
     .words = "The longest that idle_timeout \"auto\" may choose"},
    {.name = "idle_goal",
     .type = CONFIG_SHARE,
     SVC(idle_goal),
     .max = 1,
     .meta = "NUMBER",
     .def_words = "0.5",
     .words = "What idle_timeout \"auto\" is after: 0 = less memory, 1 = fewer cold starts"},
    {.name = "on_idle",
     .type = CONFIG_WORD,
     SVC(on_idle),
     .def = "remove",
     .choices = "remove|stop|pause",
     .meta = "WHAT",
     .words = "What idle_timeout does to an instance: stopped and paused ones are kept, and woken "
              "faster than new ones start"},
    {.name = "pause_after",
     .type = CONFIG_DURATION,
     SVC(pause_after_ms),
     .min = 10,
     .max = 30 * DAY_MS,
     .def = "off",
     .none = "off",
     .none_value = -1,
     .meta = "DURATION",
     .words = "Idleness after which an instance is paused, before idle_timeout comes"},
    {.name = "min_instances",
     .type = CONFIG_INT,
     SVC(min_instances),
     .min = 0,
     .max = MAX_SCALE,
     .def = "0",
     .meta = "N",
     .words = "Instances kept ready at all times"},
    {.name = "max_instances",
     .type = CONFIG_INT,
     SVC(max_instances),
     .min = 1,
     .max = MAX_SCALE,
     .def = "1",
     .meta = "N",
     .words = "Instances that there may be at once"},
    {.name = "spares",
     .type = CONFIG_INT,
     SVC(spares),
     .min = 0,
     .max = MAX_SCALE,
     .def = "0",
     .meta = "N",
     .words = "Instances kept paused and ready for use, beyond those in use"},
    {.name = "concurrency",
     .type = CONFIG_INT,
     SVC(concurrency),
     .min = 1,
     .max = KG_MAX_CONCURRENCY,
     .def = "100",
     .meta = "N",
     .words = "Exchanges at once per instance; more make another instance, up to max_instances"},
    {.name = "queue",
     .type = CONFIG_INT,
     SVC(queue),
     .min = 0,
     .max = 1000000,
     .def = "100",
     .meta = "N",
     .words = "Requests that may wait for an instance; the next is refused with 503. With 0 none "
              "waits, and so none wakes anything: only what is ready already serves"},
    {.name = "start_timeout",
     .type = CONFIG_DURATION,
     SVC(start_timeout_ms),
     .min = 10,
     .max = DAY_MS,
     .def = "30s",
     .meta = "DURATION",
     .words = "From demand to ready, without the pull"},
    {.name = "request_timeout",
     .type = CONFIG_DURATION,
     SVC(request_timeout_ms),
     .min = 0,
     .max = DAY_MS,
     .def = "300s",
     .meta = "DURATION",
     .words = "From the last of the request to the head of the worker's response; 0 = no limit"},
    {.name = "max_body",
     .type = CONFIG_SIZE,
     SVC(max_body_bytes),
     .min = 0,
     .max = 1024 * TIB,
     .def = "none",
     .none = "none",
     .none_value = -1,
     .meta = "SIZE",
     .words = "Requests with a larger body are refused with 413"},
    {.name = "health",
     .type = CONFIG_HEALTH,
     SVC(health),
     .meta = "PATH|JSON",
     .def_words = "a TCP connection is enough",
     .words = "When an instance is ready: {\"path\": \"/health\", \"status\": \"200-399\"}"},
    {.name = "pull",
     .type = CONFIG_WORD,
     SVC(pull),
     .def = "missing",
     .choices = "missing|always|never",
     .meta = "WHEN",
     .words = "When the image is pulled"},
    {.name = "pull_timeout",
     .type = CONFIG_DURATION,
     SVC(pull_timeout_ms),
     .min = 10,
     .max = DAY_MS,
     .def = "10m",
     .meta = "DURATION",
     .words = "How long a pull may take"},
    {.name = "memory",
     .type = CONFIG_SIZE,
     SVC(memory_bytes),
     .min = 6 * MIB, /* the engine's own least */
     .max = 1024 * TIB,
     .def = "none",
     .none = "none",
     .flags = CONFIG_IN_SPEC | CONFIG_HARMLESS,
     .meta = "SIZE",
     .words = "Memory limit of the container, swap included"},
    {.name = "cpus",
     .type = CONFIG_CPUS,
     SVC(nano_cpus),
     .min = 10000000, /* the engine's own least */
     .max = 1024 * 1000000000ll,
     .def = "none",
     .none = "none",
     .flags = CONFIG_IN_SPEC | CONFIG_HARMLESS,
     .meta = "NUMBER",
     .words = "CPU limit of the container, in cores"},
    {.name = "pids",
     .type = CONFIG_INT64,
     SVC(pids),
     .min = 1,
     .max = 4194304,
     .def = "512",
     .flags = CONFIG_IN_SPEC | CONFIG_HARMLESS,
     .meta = "N",
     .words = "Processes and threads that the container may have"},
    {.name = "profile",
     .type = CONFIG_WORD,
     SVC(profile),
     .def = "default",
     .choices = "default|strict",
     .flags = CONFIG_IN_SPEC,
     .meta = "NAME",
     .words = "What the container may do; the single settings below override it"},
    {.name = "cap_add",
     .type = CONFIG_STRINGS,
     SVC(cap_add),
     .max = 64,
     .check = config_check_cap,
     .flags = CONFIG_IN_SPEC | CONFIG_CAPS,
     .meta = "NAME",
     .def_words = "the profile's",
     .words = "Capabilities given beyond the profile's"},
    {.name = "cap_drop",
     .type = CONFIG_STRINGS,
     SVC(cap_drop),
     .max = 64,
     .check = config_check_cap,
     .flags = CONFIG_IN_SPEC | CONFIG_CAPS,
     .meta = "NAME",
     .def_words = "the profile's",
     .words = "Capabilities taken away"},
    {.name = "read_only",
     .type = CONFIG_TRISTATE,
     SVC(read_only),
     .flags = CONFIG_IN_SPEC,
     .def_words = "the profile's",
     .words = "The container's own file system cannot be written"},
    {.name = "tmpfs",
     .type = CONFIG_STRINGS,
     SVC(tmpfs),
     .max = 64,
     .check = config_check_tmpfs,
     .flags = CONFIG_IN_SPEC,
     .meta = "PATH",
     .def_words = "the profile's",
     .words = "File systems in memory: /path or /path:options"},
    {.name = "init",
     .type = CONFIG_TRISTATE,
     SVC(init),
     .flags = CONFIG_IN_SPEC,
     .def_words = "the profile's",
     .words = "Run the engine's init as process 1"},
    {.name = "runtime",
     .type = CONFIG_STRING,
     SVC(runtime),
     .max = 255,
     .check = config_check_word,
     .flags = CONFIG_IN_SPEC,
     .meta = "NAME",
     .def_words = "the engine's",
     .words = "OCI runtime of the container"},
    {.name = "devices",
     .type = CONFIG_STRINGS,
     SVC(devices),
     .max = 64,
     .check = config_check_device,
     .flags = CONFIG_IN_SPEC,
     .meta = "DEVICE",
     .def_words = "none",
     .words = "Devices of the host: /dev/x, /dev/x:/dev/y or /dev/x:/dev/y:rwm"},
    {.name = "quiet",
     .type = CONFIG_QUIET,
     SVC(quiet),
     .max = KG_MAX_QUIET,
     .meta = "JSON",
     .def_words = "none",
     .words = "Monitors that neither wake nor keep awake: {\"path\": \"/ping\", \"method\": "
              "\"GET\", \"user_agent\": \"Monitor*\"}"},
    {.name = "quiet_status",
     .type = CONFIG_INT,
     SVC(quiet_status),
     .min = 200,
     .max = 599,
     .def = "503",
     .meta = "STATUS",
     .words = "What monitors get while no instance runs"},
    {.name = NULL},
};

const struct config_key *config_key_find(const struct config_key *keys, const char *name)
{
    CONFIG_EACH_KEY(k, keys)
    if (strcmp(k->name, name) == 0)
        return k;
    return NULL;
}

bool config_key_is_list(const struct config_key *k)
{
    return k->type == CONFIG_STRINGS || k->type == CONFIG_PAIRS || k->type == CONFIG_ROUTES ||
           k->type == CONFIG_QUIET || k->type == CONFIG_CERTIFICATES;
}

/* The word of that index in "a|b|c". */
static const char *nth_word(const char *at, int index, size_t *n)
{
    for (; at && index > 0; index--) {
        at = strchr(at, '|');
        at = at ? at + 1 : NULL;
    }
    if (at)
        *n = strcspn(at, "|");
    return at;
}

const char *config_choice(const struct config_key *k, int index, size_t *n)
{
    return nth_word(k->choices, index, n);
}

const char *config_none(const struct config_key *k, int index, size_t *n)
{
    return nth_word(k->none, index, n);
}

/* --- what was meant ------------------------------------------------------------------------ */

#define MEANT_BYTES 40

/* Changes (a letter more, less, other, or two swapped) that make b of a; large when too many. */
static size_t distance(const char *a, const char *b)
{
    size_t d[MEANT_BYTES + 1][MEANT_BYTES + 1], n = strlen(a), m = strlen(b);

    if (n > MEANT_BYTES || m > MEANT_BYTES)
        return SIZE_MAX;
    for (size_t i = 0; i <= n; i++)
        for (size_t j = 0; j <= m; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            d[i][j] = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < d[i][j])
                d[i][j] = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < d[i][j])
                d[i][j] = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < d[i][j])
                d[i][j] = d[i - 2][j - 2] + 1;
        }
    return d[n][m];
}

const char *config_key_meant(const struct config_key *keys, const struct config_key *more,
                             const char *name)
{
    const struct config_key *tables[] = {keys, more};
    size_t nearest = strlen(name) / 3 + 1;
    const char *meant = NULL;

    for (size_t t = 0; t < 2 && tables[t]; t++)
        CONFIG_EACH_KEY(k, tables[t])
        {
            size_t d = distance(name, k->name);
            if (d < nearest || (d == nearest && !meant)) {
                nearest = d;
                meant = k->name;
            }
        }
    return meant;
}

/* --- what is wanted ------------------------------------------------------------------------ */

static void expect_choices(const struct config_key *k, struct kg_buf *out)
{
    const char *word;
    size_t n;

    kg_buf_puts(out, "one of");
    for (int i = 0; (word = config_choice(k, i, &n)); i++)
        kg_buf_printf(out, "%s \"%.*s\"", i ? "," : "", (int)n, word);
}

static void expect_range(const struct config_key *k, struct kg_buf *out)
{
    char least[24], most[24];

    if (k->type == CONFIG_DURATION) {
        kg_duration_format(k->min, least);
        kg_duration_format(k->max, most);
        kg_buf_printf(out, "a duration from \"%s\" to \"%s\", such as \"250ms\", \"30s\" or \"5m\"",
                      least, most);
    } else {
        kg_size_format(k->min, least);
        kg_size_format(k->max, most);
        kg_buf_printf(out, "a size from \"%s\" to \"%s\", such as \"64KiB\" or \"512MiB\"", least,
                      most);
    }
}

static void expect_list(const struct config_key *k, struct kg_buf *out)
{
    if (k->type == CONFIG_PAIRS)
        kg_buf_puts(out, "a list of \"NAME=value\" strings or an object of strings");
    else if (k->type == CONFIG_ROUTES)
        kg_buf_puts(out, "a list of routes such as \"/prefix\", \"host.name/prefix\"");
    else if (k->type == CONFIG_QUIET)
        kg_buf_puts(out, "a list of objects with \"path\", \"method\" or \"user_agent\"");
    else if (k->type == CONFIG_CERTIFICATES)
        kg_buf_puts(out, "a list of objects with \"certificate\", \"key\" and perhaps \"ocsp\"");
    else
        kg_buf_puts(out, "a list of strings");
    if (k->min > 0)
        kg_buf_printf(out, ", at least %" PRId64, k->min);
    kg_buf_printf(out, ", at most %" PRId64, k->max);
}

void config_key_expects(const struct config_key *k, struct kg_buf *out)
{
    const char *word;
    size_t n;

    if (config_key_is_list(k))
        expect_list(k, out);
    else if (k->type == CONFIG_INT || k->type == CONFIG_INT64)
        kg_buf_printf(out, "a whole number from %" PRId64 " to %" PRId64, k->min, k->max);
    else if (k->type == CONFIG_DURATION || k->type == CONFIG_SIZE)
        expect_range(k, out);
    else if (k->type == CONFIG_CPUS)
        kg_buf_printf(out, "a number from %g to %g", (double)k->min / 1e9, (double)k->max / 1e9);
    else if (k->type == CONFIG_SHARE)
        kg_buf_puts(out, "a number from 0 to 1");
    else if (k->type == CONFIG_BOOL || k->type == CONFIG_TRISTATE)
        kg_buf_puts(out, "true or false");
    else if (k->type == CONFIG_WORD)
        expect_choices(k, out);
    else if (k->type == CONFIG_HEALTH)
        kg_buf_puts(out, "an object with \"path\" (\"/health\") and \"status\" (\"200-399\")");
    else
        kg_buf_printf(out, "a string of 1 to %" PRId64 " bytes", k->max);
    for (int i = 0; (word = config_none(k, i, &n)); i++)
        kg_buf_printf(out, ", or \"%.*s\"", (int)n, word);
}
