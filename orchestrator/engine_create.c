/* SPDX-License-Identifier: Apache-2.0 */
/* What a container of ours is made of, and what the engine says of one.
 * The difficulty: the default profile must run common images unchanged and still give nothing away.
 */
#include "orchestrator/engine_priv.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Docker's own, less NET_RAW, MKNOD, AUDIT_WRITE and SETFCAP. */
static const char *const default_capabilities[] = {
    "CHOWN",  "DAC_OVERRIDE", "FSETID",           "FOWNER",     "SETGID",
    "SETUID", "SETPCAP",      "NET_BIND_SERVICE", "SYS_CHROOT", "KILL",
};

static struct json *strings(const struct config_strings *s)
{
    struct json *array = json_new_array();

    for (size_t i = 0; i < s->count; i++)
        json_push_string(array, s->items[i]);
    return array;
}

static bool contains(const struct config_strings *s, const char *text)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->items[i], text) == 0)
            return true;
    return false;
}

static void add_labels(const struct engine *e, const struct config_service *s, struct json *body)
{
    struct json *labels = json_new_object();
    char key[256];

    for (size_t i = 0; i < s->labels.count; i++) {
        const char *label = s->labels.items[i], *equals = strchr(label, '=');
        size_t n = equals ? (size_t)(equals - label) : strlen(label);
        if (strncmp(label, "io.kipgate.", 11) == 0 ||
            !kg_str_copy(key, sizeof key, (struct kg_str){label, n}))
            continue; /* ours are not the user's to set; config refuses them with words */
        json_set_string(labels, key, equals ? equals + 1 : "");
    }
    json_set_string(labels, "io.kipgate.owner", e->owner);
    json_set_string(labels, "io.kipgate.service", s->name);
    json_set_string(labels, "io.kipgate.spec", s->spec);
    json_set(body, "Labels", labels);
}

/* Drop all, then give back what the profile and the service allow: the result is the same on every
 * engine, whatever its own defaults are. */
static void add_capabilities(const struct config_service *s, struct json *host)
{
    struct json *add = json_new_array(), *drop = json_new_array();
    size_t n = sizeof default_capabilities / sizeof *default_capabilities;

    json_push_string(drop, "ALL");
    for (size_t i = 0; s->profile == CONFIG_PROFILE_DEFAULT && i < n; i++)
        if (!contains(&s->cap_drop, default_capabilities[i]) && !contains(&s->cap_drop, "ALL"))
            json_push_string(add, default_capabilities[i]);
    for (size_t i = 0; i < s->cap_add.count; i++)
        json_push_string(add, s->cap_add.items[i]);
    json_set(host, "CapAdd", add);
    json_set(host, "CapDrop", drop);
}

static void add_tmpfs(const struct config_service *s, bool strict, struct json *host)
{
    struct json *tmpfs = json_new_object();
    char path[256];

    for (size_t i = 0; i < s->tmpfs.count; i++) {
        const char *t = s->tmpfs.items[i], *colon = strchr(t, ':');
        size_t n = colon ? (size_t)(colon - t) : strlen(t);
        if (kg_str_copy(path, sizeof path, (struct kg_str){t, n}))
            json_set_string(tmpfs, path, colon ? colon + 1 : "");
    }
    if (strict && s->tmpfs.count == 0)
        json_set_string(tmpfs, "/tmp", "rw,noexec,nosuid,nodev,size=64m");
    json_set(host, "Tmpfs", tmpfs);
}

static void add_devices(const struct config_service *s, struct json *host)
{
    struct json *devices = json_new_array();

    for (size_t i = 0; i < s->devices.count; i++) {
        struct json *d = json_new_object();
        json_set_string(d, "PathOnHost", s->devices.items[i]);
        json_set_string(d, "PathInContainer", s->devices.items[i]);
        json_set_string(d, "CgroupPermissions", "rwm");
        json_push(devices, d);
    }
    json_set(host, "Devices", devices);
}

static void add_binds(const struct engine *e, const struct config_service *s, const char *name,
                      struct json *host)
{
    struct json *binds = strings(&s->volumes);
    char dir[320], bind[800];
    const char *slash = s->socket ? strrchr(s->socket, '/') : NULL;

    if (slash && engine_socket_dir(e, name, true, dir, sizeof dir)) {
        snprintf(bind, sizeof bind, "%s:%.*s", dir, (int)(slash - s->socket), s->socket);
        json_push_string(binds, bind);
    }
    json_set(host, "Binds", binds);
}

static void add_limits(const struct engine *e, const struct config_service *s, bool strict,
                       struct json *host)
{
    struct json *nofile = json_new_object(), *ulimits = json_new_array();

    if (s->memory_bytes > 0) {
        json_set_number(host, "Memory", (double)s->memory_bytes);
        json_set_number(host, "MemorySwap", (double)s->memory_bytes);
    }
    if (s->nano_cpus > 0)
        json_set_number(host, "NanoCpus", (double)s->nano_cpus);
    if (s->pids > 0)
        json_set_number(host, "PidsLimit", (double)s->pids);
    json_set_bool(host, "Init", s->init == CONFIG_UNSET ? e->init_works : s->init == CONFIG_TRUE);
    json_set_bool(host, "ReadonlyRootfs",
                  s->read_only == CONFIG_UNSET ? strict : s->read_only == CONFIG_TRUE);
    if (s->runtime)
        json_set_string(host, "Runtime", s->runtime);
    if (strict) {
        json_set_string(nofile, "Name", "nofile");
        json_set_number(nofile, "Soft", 4096);
        json_set_number(nofile, "Hard", 4096);
        json_push(ulimits, nofile);
        json_set(host, "Ulimits", ulimits);
        json_set_string(host, "IpcMode", "private");
    } else {
        json_free(nofile);
        json_free(ulimits);
    }
}

static void add_log_cap(struct json *host)
{
    struct json *log = json_new_object(), *options = json_new_object();

    json_set_string(options, "max-size", "10m");
    json_set_string(options, "max-file", "1");
    json_set_string(log, "Type", "json-file");
    json_set(log, "Config", options);
    json_set(host, "LogConfig", log);
}

static struct json *host_config(const struct engine *e, const struct config_service *s,
                                const char *name)
{
    struct json *host = json_new_object(), *security = json_new_array(),
                *restart = json_new_object();
    bool strict = s->profile == CONFIG_PROFILE_STRICT;

    json_push_string(security, "no-new-privileges:true");
    json_set(host, "SecurityOpt", security);
    json_set_string(restart, "Name", "no");
    json_set(host, "RestartPolicy", restart);
    add_capabilities(s, host);
    add_tmpfs(s, strict, host);
    add_devices(s, host);
    add_binds(e, s, name, host);
    add_limits(e, s, strict, host);
    add_log_cap(host);
    if (e->network[0])
        json_set_string(host, "NetworkMode", e->network);
    return host;
}

struct json *engine_create_body(const struct engine *e, const struct config_service *s,
                                const char *name)
{
    struct json *body = json_new_object();

    json_set_string(body, "Image", s->image);
    if (s->command.count)
        json_set(body, "Cmd", strings(&s->command));
    if (s->entrypoint.count)
        json_set(body, "Entrypoint", strings(&s->entrypoint));
    json_set(body, "Env", strings(&s->env));
    if (s->user)
        json_set_string(body, "User", s->user);
    else if (s->profile == CONFIG_PROFILE_STRICT)
        json_set_string(body, "User", "65534:65534");
    add_labels(e, s, body);
    json_set(body, "HostConfig", host_config(e, s, name));
    return body;
}

/* PORT for the worker; exposed, and published where that is how it is reached. */
void engine_create_set_port(const struct engine *e, struct json *body, int port)
{
    struct json *host = (struct json *)(void *)json_get(body, "HostConfig");
    struct json *env = (struct json *)(void *)json_get(body, "Env");
    struct json *exposed = json_new_object(), *bindings, *list, *one;
    char text[32];

    snprintf(text, sizeof text, "PORT=%d", port);
    json_push_string(env, text);
    snprintf(text, sizeof text, "%d/tcp", port);
    json_set(exposed, text, json_new_object());
    json_set(body, "ExposedPorts", exposed);
    if (e->reach != ENGINE_REACH_PUBLISHED)
        return;
    one = json_new_object();
    json_set_string(one, "HostIp", e->host[0] ? "0.0.0.0" : "127.0.0.1");
    json_set_string(one, "HostPort", "");
    list = json_new_array();
    json_push(list, one);
    bindings = json_new_object();
    json_set(bindings, text, list);
    json_set(host, "PortBindings", bindings);
}

/* --- what the engine says
 * ----------------------------------------------------------------------------- */

int engine_single_port(const struct json *exposed, size_t *count)
{
    int port = 0, one;
    char proto[8];

    *count = 0;
    for (const struct json *p = json_first(exposed); p; p = json_next(p))
        if (sscanf(json_key(p), "%d/%7s", &one, proto) == 2 && strcmp(proto, "tcp") == 0 &&
            one > 0 && one < 65536) {
            port = one;
            ++*count;
        }
    return *count == 1 ? port : 0;
}

static enum engine_state state_of(const char *word)
{
    static const char *const words[] = {"created",  "running", "paused", "restarting",
                                        "removing", "exited",  "dead"};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(word, words[i]) == 0)
            return (enum engine_state)i;
    return ENGINE_DEAD;
}

static void copy_cut(char *out, size_t cap, const char *text)
{
    kg_str_copy(out, cap, (struct kg_str){text, strnlen(text, cap - 1)});
}

static void parse_labels(const struct json *labels, struct engine_container *out)
{
    copy_cut(out->owner, sizeof out->owner, json_string(json_get(labels, "io.kipgate.owner"), ""));
    copy_cut(out->service, sizeof out->service,
             json_string(json_get(labels, "io.kipgate.service"), ""));
    copy_cut(out->spec, sizeof out->spec, json_string(json_get(labels, "io.kipgate.spec"), ""));
}

static bool set_inet(struct engine_container *c, const char *ip, int port)
{
    struct sockaddr_in *four = (void *)&c->address;
    struct sockaddr_in6 *six = (void *)&c->address;

    if (port <= 0 || port > 65535)
        return false;
    if (inet_pton(AF_INET, ip, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons((uint16_t)port);
        c->address_length = sizeof *four;
        return true;
    }
    if (inet_pton(AF_INET6, ip, &six->sin6_addr) != 1)
        return false;
    six->sin6_family = AF_INET6;
    six->sin6_port = htons((uint16_t)port);
    c->address_length = sizeof *six;
    return true;
}

static void address_published(const struct engine *e, const struct json *n, int port,
                              struct engine_container *out)
{
    char key[16];
    const struct json *bindings;
    int host_port;

    snprintf(key, sizeof key, "%d/tcp", port);
    bindings = json_get(json_path(n, "NetworkSettings.Ports"), key);
    host_port = atoi(json_string(json_get(json_first(bindings), "HostPort"), "0"));
    if (!set_inet(out, e->host[0] ? e->host : "127.0.0.1", host_port))
        set_inet(out, "127.0.0.1", host_port); /* a name: config asks for a numeric address */
}

static void address_socket(const struct engine *e, const struct engine_about *about,
                           struct engine_container *out)
{
    struct sockaddr_un *un = (void *)&out->address;
    char dir[320], path[512];

    if (!engine_socket_dir(e, out->name, false, dir, sizeof dir))
        return;
    snprintf(path, sizeof path, "%s/%s", dir, about->socket_file);
    un->sun_family = AF_UNIX;
    if (kg_str_copy(un->sun_path, sizeof un->sun_path, kg_str_of(path)))
        out->address_length = sizeof *un;
    else
        un->sun_family = 0;
}

static void parse_address(const struct engine *e, const struct json *n,
                          const struct engine_about *about, struct engine_container *out)
{
    const struct json *networks = json_path(n, "NetworkSettings.Networks"), *network;
    int port = about->port;
    size_t count;

    if (about->socket_file[0]) {
        address_socket(e, about, out);
        return;
    }
    if (port == 0)
        port = engine_single_port(json_path(n, "Config.ExposedPorts"), &count);
    if (e->reach == ENGINE_REACH_PUBLISHED) {
        address_published(e, n, port, out);
        return;
    }
    network = json_get(networks, e->network);
    if (!network)
        network = json_first(networks);
    if (!set_inet(out, json_string(json_get(network, "IPAddress"), ""), port))
        set_inet(out, json_string(json_get(network, "GlobalIPv6Address"), ""), port);
}

bool engine_parse_inspect(const struct engine *e, const struct json *n,
                          const struct engine_about *about, struct engine_container *out)
{
    const struct json *state = json_get(n, "State");
    const char *name = json_string(json_get(n, "Name"), "");

    *out = (struct engine_container){0};
    copy_cut(out->id, sizeof out->id, json_string(json_get(n, "Id"), ""));
    copy_cut(out->name, sizeof out->name, name[0] == '/' ? name + 1 : name);
    if (!out->id[0] || json_type(state) != JSON_OBJECT)
        return false;
    parse_labels(json_path(n, "Config.Labels"), out);
    if (!out->owner[0]) /* json_path splits at dots; the labels' own keys have some */
        parse_labels(json_get(json_get(n, "Config"), "Labels"), out);
    out->state = state_of(json_string(json_get(state, "Status"), "dead"));
    out->exit_code = (int)json_number(json_get(state, "ExitCode"), 0);
    out->oom_killed = json_bool(json_get(state, "OOMKilled"), false);
    copy_cut(out->error, sizeof out->error, json_string(json_get(state, "Error"), ""));
    if (out->state == ENGINE_RUNNING || out->state == ENGINE_PAUSED)
        parse_address(e, n, about, out);
    return true;
}

bool engine_parse_listed(const struct json *n, struct engine_container *out)
{
    const char *name = json_string(json_first(json_get(n, "Names")), "");

    *out = (struct engine_container){0};
    copy_cut(out->id, sizeof out->id, json_string(json_get(n, "Id"), ""));
    copy_cut(out->name, sizeof out->name, name[0] == '/' ? name + 1 : name);
    parse_labels(json_get(n, "Labels"), out);
    out->state = state_of(json_string(json_get(n, "State"), "dead"));
    return out->id[0] != '\0';
}

/* --- sockets' directories
 * ----------------------------------------------------------------------------- */

bool engine_socket_dir(const struct engine *e, const char *name, bool make, char *out, size_t cap)
{
    const char *suffix = strrchr(name, '-'); /* unique, and short: a socket's path is too */

    if (!suffix || snprintf(out, cap, "%s/%s", e->sockets_dir, suffix + 1) >= (int)cap)
        return false;
    if (!make)
        return true;
    mkdir(e->sockets_dir, 0711);
    chmod(e->sockets_dir, 0711);
    /* The worker's user is unknown, and may be any: what it makes there is the worker's own. */
    return mkdir(out, 0777) == 0 && chmod(out, 0777) == 0;
}

static bool in_use(const char *suffix, const struct engine_container *all, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *dash = strrchr(all[i].name, '-');
        if (dash && strcmp(dash + 1, suffix) == 0)
            return true;
    }
    return false;
}

static void remove_dir(const char *path)
{
    char file[900];
    struct dirent *entry;
    DIR *dir = opendir(path);

    while (dir && (entry = readdir(dir)) != NULL) {
        snprintf(file, sizeof file, "%s/%.255s", path, entry->d_name);
        if (entry->d_name[0] != '.')
            unlink(file);
    }
    if (dir)
        closedir(dir);
    rmdir(path);
}

/* Directories whose container is gone. One that is being made now is young: left for the next time.
 */
void engine_sweep_sockets(const struct engine *e, const struct engine_container *all, size_t n)
{
    char path[600];
    struct dirent *entry;
    struct stat st;
    DIR *dir = opendir(e->sockets_dir);

    while (dir && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.' || in_use(entry->d_name, all, n))
            continue;
        snprintf(path, sizeof path, "%s/%.255s", e->sockets_dir, entry->d_name);
        if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_mtime + 60 < time(NULL))
            remove_dir(path);
    }
    if (dir)
        closedir(dir);
}
