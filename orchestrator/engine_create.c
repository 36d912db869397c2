/* SPDX-License-Identifier: Apache-2.0 */
/* What a container of ours is created with: a service's wishes on top of its profile. Pure.
 * The difficulty: a profile must be a floor that single settings change, never lose by accident. */
#include "orchestrator/engine_priv.h"
#include "orchestrator/parking_program.h"
#include <stdio.h>
#include <stdlib.h>

#define NOFILE_LIMIT 4096 /* lower than any engine's own: it could not be raised above that */
#define STRICT_USER "65534:65534"
#define STRICT_TMPFS "rw,noexec,nosuid,nodev,size=64m"

/* Docker's own set, less those that a worker behind a proxy has no use for. */
static const char *const default_drop[] = {"NET_RAW", "MKNOD", "AUDIT_WRITE", "SETFCAP"};

static void push_all(struct json *array, const struct config_strings *s)
{
    for (size_t i = 0; i < s->count; i++)
        json_push_string(array, s->items[i]);
}

static void set_list(struct json *to, const char *key, const struct config_strings *s)
{
    struct json *array;

    if (s->count == 0)
        return;
    array = json_new_array();
    push_all(array, s);
    json_set(to, key, array);
}

static void set_empty(struct json *to, const char *key, const char *member)
{
    struct json *outer = json_new_object();

    json_set(outer, member, json_new_object());
    json_set(to, key, outer);
}

/* "NAME" or, behind the mark, "NAME=VALUE" as a member. */
static void set_pair(struct json *to, const char *item, char mark)
{
    const char *at = strchr(item, mark);
    char *name = strndup(item, at ? (size_t)(at - item) : strlen(item));

    if (name)
        json_set_string(to, name, at ? at + 1 : "");
    else
        json_set(to, item, NULL); /* spoils it: a part is not to be taken for the whole */
    free(name);
}

static bool strict(const struct config_service *s)
{
    return s->profile == CONFIG_PROFILE_STRICT;
}

/* "key=value"; those that look like ours are not the user's to set. */
static struct json *labels_of(const struct config_service *s, const char *owner)
{
    struct json *labels = json_new_object();

    for (size_t i = 0; i < s->labels.count; i++)
        if (!kg_str_has_prefix(kg_str_of(s->labels.items[i]), KG_STR(LABEL_PREFIX)))
            set_pair(labels, s->labels.items[i], '=');
    json_set_string(labels, LABEL_OWNER, owner);
    json_set_string(labels, LABEL_SERVICE, s->name);
    json_set_string(labels, LABEL_SPEC, s->spec);
    return labels;
}

/* --- the profile -------------------------------------------------------------------------- */

static bool adds(const struct config_service *s, const char *capability)
{
    for (size_t i = 0; i < s->cap_add.count; i++) {
        struct kg_str item = kg_str_of(s->cap_add.items[i]), prefix = KG_STR("CAP_");
        if (item.n > prefix.n && kg_str_eq_nocase((struct kg_str){item.p, prefix.n}, prefix))
            item = (struct kg_str){item.p + prefix.n, item.n - prefix.n};
        if (kg_str_eq_nocase(item, kg_str_of(capability)) || kg_str_eq_nocase(item, KG_STR("ALL")))
            return true;
    }
    return false;
}

/* What is both dropped and added is an error to some engines: the user's addition wins. */
static void set_capabilities(struct json *host, const struct config_service *s)
{
    struct json *drop = json_new_array();

    if (strict(s))
        json_push_string(drop, "ALL");
    for (size_t i = 0; !strict(s) && i < sizeof default_drop / sizeof *default_drop; i++)
        if (!adds(s, default_drop[i]))
            json_push_string(drop, default_drop[i]);
    push_all(drop, &s->cap_drop);
    json_set(host, "CapDrop", drop);
    set_list(host, "CapAdd", &s->cap_add);
}

/* What follows "/tmp" and its slashes; NULL: it is another path. The engine takes "/tmp/" for
 * "/tmp", and no two mounts for one path. */
static const char *behind_tmp(const char *path)
{
    const char *name = path + strspn(path, "/"), *end = name + strlen("tmp");

    if (name == path || strncmp(name, "tmp", strlen("tmp")) != 0 || (*end && !strchr("/:", *end)))
        return NULL;
    return end + strspn(end, "/");
}

static bool is_tmp(const char *item)
{
    const char *rest = behind_tmp(item);

    return rest && (*rest == '\0' || *rest == ':');
}

/* Is something of the user's, or the worker's socket, on /tmp already? */
static bool tmp_is_taken(const struct config_service *s)
{
    const char *socket = s->socket ? behind_tmp(s->socket) : NULL;

    for (size_t i = 0; i < s->tmpfs.count; i++)
        if (is_tmp(s->tmpfs.items[i]))
            return true;
    for (size_t i = 0; i < s->volumes.count; i++) {
        const char *colon = strchr(s->volumes.items[i], ':');
        if (is_tmp(colon ? colon + 1 : s->volumes.items[i]))
            return true;
    }
    return socket && !strchr(socket, '/');
}

static void set_tmpfs(struct json *host, const struct config_service *s)
{
    struct json *tmpfs = json_new_object();

    for (size_t i = 0; i < s->tmpfs.count; i++)
        set_pair(tmpfs, s->tmpfs.items[i], ':');
    if (strict(s) && !tmp_is_taken(s))
        json_set_string(tmpfs, "/tmp", STRICT_TMPFS);
    json_set(host, "Tmpfs", tmpfs);
}

static void set_limits(struct json *host, const struct config_service *s)
{
    struct json *ulimits, *nofile;

    if (s->memory_bytes > 0) { /* a limit that swap does not soften */
        json_set_number(host, "Memory", (double)s->memory_bytes);
        json_set_number(host, "MemorySwap", (double)s->memory_bytes);
    }
    if (s->nano_cpus > 0)
        json_set_number(host, "NanoCpus", (double)s->nano_cpus);
    if (s->pids > 0)
        json_set_number(host, "PidsLimit", (double)s->pids);
    if (!strict(s))
        return;
    ulimits = json_new_array();
    nofile = json_new_object();
    json_set_string(nofile, "Name", "nofile");
    json_set_number(nofile, "Soft", NOFILE_LIMIT);
    json_set_number(nofile, "Hard", NOFILE_LIMIT);
    json_push(ulimits, nofile);
    json_set(host, "Ulimits", ulimits);
}

static void set_security(struct json *host, const struct config_service *s,
                         const struct engine_ground *g)
{
    struct json *options = json_new_array();
    bool read_only = s->read_only == CONFIG_UNSET ? strict(s) : s->read_only == CONFIG_TRUE;

    json_push_string(options, "no-new-privileges");
    json_set(host, "SecurityOpt", options);
    json_set_bool(host, "Privileged", false);
    json_set_bool(host, "ReadonlyRootfs", read_only);
    json_set_bool(host, "Init", s->init == CONFIG_UNSET ? g->init : s->init == CONFIG_TRUE);
    if (strict(s))
        json_set_string(host, "IpcMode", "private");
    if (s->runtime)
        json_set_string(host, "Runtime", s->runtime);
    set_capabilities(host, s);
}

static void set_log(struct json *host, const struct engine_ground *g)
{
    struct json *log, *options;

    if (!g->json_file) /* the engine's own choice of driver stands, with its own caps */
        return;
    log = json_new_object();
    options = json_new_object();
    json_set_string(options, "max-size", "10m");
    json_set_string(options, "max-file", "1");
    json_set_string(log, "Type", "json-file");
    json_set(log, "Config", options);
    json_set(host, "LogConfig", log);
}

/* --- what it sees of the host ------------------------------------------------------------- */

/* "HOST[:INSIDE[:PERMISSIONS]]" */
static void set_devices(struct json *host, const struct config_service *s)
{
    struct json *devices = json_new_array();

    for (size_t i = 0; i < s->devices.count; i++) {
        struct json *device = json_new_object();
        char *item = strdup(s->devices.items[i]), *save = NULL;
        char *outside = item ? strtok_r(item, ":", &save) : NULL;
        char *inside = outside ? strtok_r(NULL, ":", &save) : NULL;
        char *permissions = inside ? strtok_r(NULL, ":", &save) : NULL;
        json_set_string(device, "PathOnHost", outside ? outside : "");
        json_set_string(device, "PathInContainer", inside ? inside : outside ? outside : "");
        json_set_string(device, "CgroupPermissions", permissions ? permissions : "rwm");
        json_push(devices, device);
        free(item);
    }
    json_set(host, "Devices", devices);
}

/* The directory in the worker that holds its socket; false: it is the root. */
static bool socket_parent(const char *socket, char *out, size_t cap)
{
    const char *slash = strrchr(socket, '/');

    return slash && slash != socket &&
           kg_str_copy(out, cap, (struct kg_str){socket, (size_t)(slash - socket)});
}

static int set_binds(struct json *root, struct json *host, const struct config_service *s,
                     const struct engine_ground *g, struct kg_err *err)
{
    struct json *binds = json_new_array(), *unnamed = json_new_object();
    char parent[256], bind[600];
    int rc = 0;

    for (size_t i = 0; i < s->volumes.count; i++) {
        if (strchr(s->volumes.items[i], ':'))
            json_push_string(binds, s->volumes.items[i]);
        else
            json_set(unnamed, s->volumes.items[i], json_new_object());
    }
    if (s->socket && !g->socket_dir) {
        rc = kg_fail(err, KG_EINVAL, "a socket needs the engine on this machine");
    } else if (s->socket && !socket_parent(s->socket, parent, sizeof parent)) {
        rc = kg_fail(err, KG_EINVAL, "socket %s: must be in a directory below /", s->socket);
    } else if (s->socket) {
        snprintf(bind, sizeof bind, "%s:%s", g->socket_dir, parent);
        json_push_string(binds, bind);
    }
    json_set(host, "Binds", binds);
    json_set(root, "Volumes", unnamed);
    return rc;
}

/* On a network of ours it is found by its service's name, by those that need it. */
static void set_alias(struct json *root, const char *service, const struct engine_ground *g)
{
    struct json *config = json_new_object(), *ends = json_new_object();
    struct json *end = json_new_object(), *aliases = json_new_array(), *ipam = json_new_object();

    if (*service) /* a sandbox has none */
        json_push_string(aliases, service);
    json_set(end, "Aliases", aliases);
    if (g->address && g->address[0]) {
        json_set_string(ipam, "IPv4Address", g->address);
        json_set(end, "IPAMConfig", ipam);
    } else {
        json_free(ipam);
    }
    json_set(ends, g->network, end);
    json_set(config, "EndpointsConfig", ends);
    json_set(root, "NetworkingConfig", config);
}

static void set_network(struct json *root, struct json *host, const char *service,
                        const struct engine_ground *g)
{
    char mode[ENGINE_ID_BYTES + 16];

    if (g->sandbox) {
        snprintf(mode, sizeof mode, "container:%s", g->sandbox);
        json_set_string(host, "NetworkMode", mode);
        return;
    }
    if (!g->network[0])
        return;
    json_set_string(host, "NetworkMode", g->network);
    if (strcmp(g->network, "bridge") != 0) /* the default one takes no settings of an endpoint */
        set_alias(root, service, g);
}

static int set_host(struct engine_body *b, const struct config_service *s,
                    const struct engine_ground *g, struct kg_err *err)
{
    struct json *restart = json_new_object();

    json_set_string(restart, "Name", "");
    json_set(b->host, "RestartPolicy", restart);
    json_set_bool(b->host, "AutoRemove", false); /* an exit at boot leaves something to look at */
    set_security(b->host, s, g);
    set_limits(b->host, s);
    set_tmpfs(b->host, s);
    set_log(b->host, g);
    set_devices(b->host, s);
    return set_binds(b->root, b->host, s, g, err);
}

/* --- doors -------------------------------------------------------------------------------- */

int engine_body_begin(struct engine_body *b, const struct config_service *s,
                      const struct engine_ground *g, struct kg_err *err)
{
    *b = (struct engine_body){json_new_object(), json_new_object(), json_new_array(),
                              labels_of(s, g->owner), false};
    json_set_string(b->root, "Image", s->image);
    set_list(b->root, "Cmd", &s->command);
    set_list(b->root, "Entrypoint", &s->entrypoint);
    push_all(b->env, &s->env);
    for (size_t i = 0; i < s->env.count; i++)
        b->has_port |= strncmp(s->env.items[i], "PORT=", 5) == 0;
    if (s->user)
        json_set_string(b->root, "User", s->user);
    else if (strict(s))
        json_set_string(b->root, "User", STRICT_USER);
    return set_host(b, s, g, err);
}

static void publish(struct json *host, const char *key, const char *ip)
{
    struct json *ports = json_new_object(), *bindings = json_new_array(),
                *binding = json_new_object();

    json_set_string(binding, "HostIp", ip);
    json_set_string(binding, "HostPort", "");
    json_push(bindings, binding);
    json_set(ports, key, bindings);
    json_set(host, "PortBindings", ports);
}

int engine_body_finish(struct engine_body *b, const char *name, int port,
                       const struct engine_ground *g, struct kg_buf *out)
{
    char key[16], env[16];
    int rc;

    if (port > 0) {
        snprintf(key, sizeof key, "%d/tcp", port);
        snprintf(env, sizeof env, "PORT=%d", port);
        if (!b->has_port)
            json_push_string(b->env, env);
        if (!g->sandbox) /* another's ports are not to be described here, says the engine */
            set_empty(b->root, "ExposedPorts", key);
        if (!g->sandbox && g->reach == REACH_PUBLISHED)
            publish(b->host, key, g->published_ip);
    }
    set_network(b->root, b->host, json_string(json_get(b->labels, LABEL_SERVICE), ""), g);
    rc = engine_seal_labels(b->labels, name, json_string(json_get(b->root, "Image"), ""), b->host,
                            g);
    json_set(b->root, "Labels", b->labels);
    json_set(b->root, "Env", b->env);
    json_set(b->root, "HostConfig", b->host);
    b->labels = b->env = b->host = NULL; /* the root's now, or freed by json_set */
    if (rc == 0)
        rc = json_print(b->root, false, out);
    engine_body_fini(b);
    return rc;
}

/* The strictest there is: it does nothing, so it needs nothing. */
int engine_body_sandbox(const char *name, const char *image, const char *hostname,
                        const struct engine_ground *g, struct kg_buf *out)
{
    const struct config_service s = {.profile = CONFIG_PROFILE_STRICT,
                                     .read_only = CONFIG_TRUE,
                                     .init = CONFIG_FALSE,
                                     .memory_bytes = KG_SANDBOX_MEMORY_BYTES,
                                     .pids = KG_SANDBOX_PIDS};
    struct json *root = json_new_object(), *host = json_new_object(), *labels = json_new_object();
    struct json *log = json_new_object(), *restart = json_new_object(), *entry = json_new_array();
    int rc;

    json_set_string(root, "Image", image);
    json_set_string(root, "Hostname", hostname); /* workers have it too: it names no container */
    json_set_string(root, "User", STRICT_USER);
    json_push_string(entry, "/" PARKING_PROGRAM_NAME);
    json_set(root, "Entrypoint", entry);
    json_set_string(labels, LABEL_OWNER, g->owner);
    json_set_string(labels, LABEL_SANDBOX, "1");
    json_set_string(restart, "Name", "");
    json_set(host, "RestartPolicy", restart);
    json_set_string(log, "Type", "none");
    json_set(host, "LogConfig", log);
    set_security(host, &s, g);
    set_limits(host, &s);
    set_network(root, host, "", g);
    rc = engine_seal_labels(labels, name, image, host, g);
    json_set(root, "Labels", labels);
    json_set(root, "HostConfig", host);
    if (rc == 0)
        rc = json_print(root, false, out);
    json_free(root);
    return rc;
}

void engine_body_fini(struct engine_body *b)
{
    json_free(b->root);
    json_free(b->host);
    json_free(b->env);
    json_free(b->labels);
    *b = (struct engine_body){0};
}
