/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration as the rest of control reads it: checked, complete, immutable once built.
 * The difficulty: it comes from a file, the environment, flags and the admin API, and every error
 * of all of them is told in one run, with its place. */
#ifndef ORCHESTRATOR_CONFIG_H
#define ORCHESTRATOR_CONFIG_H

#include "base/buf.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/log.h"
#include "proxy/proxy.h"

enum config_pull { CONFIG_PULL_MISSING, CONFIG_PULL_ALWAYS, CONFIG_PULL_NEVER };
enum config_profile { CONFIG_PROFILE_DEFAULT, CONFIG_PROFILE_STRICT };
enum config_on_idle { CONFIG_ON_IDLE_REMOVE, CONFIG_ON_IDLE_STOP, CONFIG_ON_IDLE_PAUSE };
enum config_protocol { CONFIG_PROTOCOL_HTTP11, CONFIG_PROTOCOL_H2C };
enum config_tristate { CONFIG_UNSET = -1, CONFIG_FALSE = 0, CONFIG_TRUE = 1 };

struct config_strings { /* a list of NUL-terminated strings, owned */
    char **items;
    size_t count;
};
struct config_route {
    char *host;   /* "", "a.b" or "*.b", lower case */
    char *prefix; /* begins with '/' */
};

struct config_certificate { /* paths */
    char *certificate, *key;
    char *ocsp; /* NULL: none */
};
struct config_certificates {
    struct config_certificate *items;
    size_t count;
};

struct config_service {
    char name[KG_MAX_NAME_BYTES + 1];
    char *image;
    struct config_strings command, entrypoint; /* count 0: the image's */
    struct config_strings env;                 /* "NAME=value" */
    struct config_strings labels;              /* "key=value" */
    struct config_strings volumes;             /* as docker's -v: SRC:DST[:ro] */
    char *user;                                /* NULL: the image's */
    int port;                                  /* 0: the image's single exposed TCP port */
    char *socket;                              /* NULL: off; absolute path in the worker */
    struct config_route *routes;
    size_t route_count; /* 0 only where other services need this one */
    bool strip_prefix;
    enum config_protocol protocol; /* that the worker speaks */
    int64_t idle_timeout_ms;       /* with idle_auto: until enough is known about the service */
    bool idle_auto; /* idle_timeout is "auto": decided within the next two, by the third */
    int64_t idle_min_ms, idle_max_ms;  /* 0 unless idle_auto */
    double idle_goal;                  /* 0: less memory, to 1: fewer cold starts; else -1 */
    enum config_on_idle on_idle;       /* what idle_timeout does */
    int64_t pause_after_ms;            /* -1: off; else less than idle_timeout_ms (idle_max_ms) */
    int min_instances, max_instances;  /* 0 <= min + spares <= max, 1 <= max */
    int spares;                        /* kept paused beyond those in use */
    struct config_strings needs;       /* names of services, without circles */
    char group[KG_MAX_NAME_BYTES + 1]; /* what it needs, is needed by, and so on; "": nothing */
    int64_t start_timeout_ms, request_timeout_ms, pull_timeout_ms;
    int concurrency, queue;
    int64_t max_body_bytes; /* -1: none */
    struct proxy_health health;
    enum config_pull pull;
    int64_t memory_bytes; /* 0: none */
    int64_t nano_cpus;    /* 0: none */
    int64_t pids;
    enum config_profile profile;
    struct config_strings cap_add, cap_drop, tmpfs, devices;
    enum config_tristate read_only, init; /* unset: as the profile says */
    char *runtime;                        /* NULL: the engine's default */
    int quiet_status;
    unsigned quiet_count;
    struct proxy_quiet quiet[KG_MAX_QUIET];
    char spec[65]; /* hex SHA-256 over what a container is created with (canonical JSON of it) */
};

struct config {
    struct config_strings listen; /* see config_listen_address */
    struct config_certificates certificates;
    char *client_ca;                 /* NULL: clients are not asked who they are */
    struct config_strings protocols; /* "h2", "http/1.1", "h2c" */
    struct certificates *loaded;     /* what their files hold; NULL without certificates */
    char *admin;                     /* "host:port", "[v6]:port", "unix:/path" or "off" */
    char *engine;                    /* "unix:///path" or "tcp://host:port" */
    bool engine_tls;                 /* DOCKER_TLS_VERIFY */
    char *engine_cert_path;          /* DOCKER_CERT_PATH or NULL */
    char *owner;                     /* NULL: made once, kept in state_dir */
    char *state_dir;
    int fronts, max_starts;
    int max_connections_per_client; /* 0: no cap */
    int64_t paused_memory_bytes;    /* cap on the total memory of paused instances; -1: none */
    int sandboxes; /* most network namespaces parked at a time; -1: by need, 0: none */
    int64_t drain_timeout_ms;
    enum kg_log_level log_level;
    enum kg_log_format log_format;
    char *access_log; /* "off", "-" or a path */
    bool remove_on_exit;
    struct config_service **services; /* sorted by name */
    size_t service_count;
};

/* All errors of one load, ready to print: "FILE:LINE:COLUMN: key: what is wrong\n" each. */
struct config_errors {
    struct kg_buf text;
    size_t count;
};
void config_errors_fini(struct config_errors *e);

/* From the command line (argv after the command word), the environment and the file they name.
 * `running` (NULL: nothing) is in force meanwhile: its certificates are no fault for having expired
 * since. NULL: *errors says why (nothing else to free). The caller frees with config_free. */
struct config *config_load(int argc, char **argv, const struct config *running,
                           struct config_errors *errors);
void config_free(struct config *c);
/* Only the address of the admin API, from the same sources: for commands that speak to it. Other
 * keys of the file may be wrong. NULL: *errors says why. The caller frees. */
char *config_load_admin(int argc, char **argv, struct config_errors *errors);

/* The admin API's PUT: a copy of `base` with one service added or replaced from a JSON object;
 * `at` names the source in errors ("PUT /v1/services/a"). NULL on error. */
struct config *config_with_service(const struct config *base, const char *name, struct kg_str json,
                                   const char *at, struct config_errors *errors);
/* A copy without that service; NULL with an error when it has none of that name. */
struct config *config_without_service(const struct config *base, const char *name,
                                      struct config_errors *errors);

/* What may not change while running (listen, admin, engine, owner, state_dir, fronts, access_log):
 * adds an error for each that differs. True when `next` may replace `now`. */
bool config_may_replace(const struct config *now, const struct config *next,
                        struct config_errors *errors);

/* Of an item of `listen`: the address behind its scheme, if it has one, and whether that is TLS. */
const char *config_listen_address(const char *item, bool *secure);
unsigned config_protocols(const struct config *c); /* enum proxy_protocol */

const struct config_service *config_find(const struct config *c, const char *name);
/* The effective configuration as JSON, in the shapes the file has. */
void config_print(const struct config *c, struct kg_buf *out);
void config_print_service(const struct config_service *s, struct kg_buf *out);
/* Does the admin API listen where others than this machine's processes come to? */
bool config_admin_is_exposed(const struct config *c);
/* That, and what is looser than the services' profiles, one line each ("service a: cap_add
 * NET_ADMIN"). */
void config_print_loosened(const struct config *c, struct kg_buf *out);
/* The same, without what was so in `than` already; and what is run with grants that something else
 * had there, or by another runtime. */
void config_print_looser(const struct config *c, const struct config *than, struct kg_buf *out);

#endif
