/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine's answers mean. Pure. The difficulty: none of it may be trusted to have the shape
 * that the documentation says. */
#include "orchestrator/engine_priv.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

static void set_text(char *out, size_t cap, const char *text)
{
    kg_str_copy(out, cap, kg_str_of(text));
}

enum engine_state engine_parse_state(const char *status)
{
    static const char *const names[] = {
        [ENGINE_CREATED] = "created",   [ENGINE_RUNNING] = "running",
        [ENGINE_PAUSED] = "paused",     [ENGINE_RESTARTING] = "restarting",
        [ENGINE_REMOVING] = "removing", [ENGINE_EXITED] = "exited",
        [ENGINE_DEAD] = "dead",
    };
    static const char *const podmans[] = {"configured", "initialized", "stopped", "stopping"};
    static const enum engine_state means[] = {ENGINE_CREATED, ENGINE_CREATED, ENGINE_EXITED,
                                              ENGINE_RUNNING};

    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(status, names[i]) == 0)
            return (enum engine_state)i;
    for (unsigned i = 0; i < sizeof podmans / sizeof *podmans; i++)
        if (strcmp(status, podmans[i]) == 0)
            return means[i];
    return ENGINE_DEAD; /* a word we do not know: nothing to serve from */
}

static void parse_labels(const struct json *labels, struct engine_container *c)
{
    set_text(c->owner, sizeof c->owner, json_string(json_get(labels, LABEL_OWNER), ""));
    set_text(c->service, sizeof c->service, json_string(json_get(labels, LABEL_SERVICE), ""));
    set_text(c->spec, sizeof c->spec, json_string(json_get(labels, LABEL_SPEC), ""));
    set_text(c->made_of, sizeof c->made_of, json_string(json_get(labels, LABEL_MADE_OF), ""));
    set_text(c->seal, sizeof c->seal, json_string(json_get(labels, LABEL_SEAL), ""));
    c->is_sandbox = json_get(labels, LABEL_SANDBOX) != NULL;
}

static void set_name(struct engine_container *c, const char *name)
{
    set_text(c->name, sizeof c->name, name + (name[0] == '/'));
}

/* The whole id, as we name it in a create; of a name nothing is known. */
static void parse_mode(const char *mode, struct engine_container *c)
{
    struct kg_str rest = kg_str_of(mode), prefix = KG_STR("container:");

    if (kg_str_has_prefix(rest, prefix))
        set_text(c->sandbox, sizeof c->sandbox, mode + prefix.n);
}

static int to_int(double v)
{
    return v >= -1e9 && v <= 1e9 ? (int)v : -1;
}

void engine_parse_inspect(const struct json *n, struct engine_container *c)
{
    const struct json *state = json_get(n, "State");

    *c = (struct engine_container){0};
    set_text(c->id, sizeof c->id, json_string(json_get(n, "Id"), ""));
    set_name(c, json_string(json_get(n, "Name"), ""));
    parse_labels(json_path(n, "Config.Labels"), c);
    parse_mode(json_string(json_path(n, "HostConfig.NetworkMode"), ""), c);
    c->state = engine_parse_state(json_string(json_get(state, "Status"), ""));
    c->exit_code = to_int(json_number(json_get(state, "ExitCode"), 0));
    c->oom_killed = json_bool(json_get(state, "OOMKilled"), false);
    engine_clean_words(c->error, sizeof c->error,
                       kg_str_of(json_string(json_get(state, "Error"), "")));
}

/* Its own among those that it has below others, by their links to it. */
static const char *own_name(const struct json *names)
{
    for (const struct json *it = json_first(names); it; it = json_next(it)) {
        const char *name = json_string(it, ""), *last = strrchr(name, '/');
        if (*name && (!last || last == name))
            return name;
    }
    return "";
}

void engine_parse_listed(const struct json *n, struct engine_container *c)
{
    *c = (struct engine_container){0};
    set_text(c->id, sizeof c->id, json_string(json_get(n, "Id"), ""));
    set_name(c, own_name(json_get(n, "Names")));
    parse_labels(json_get(n, "Labels"), c);
    parse_mode(json_string(json_path(n, "HostConfig.NetworkMode"), ""), c);
    c->state = engine_parse_state(json_string(json_get(n, "State"), ""));
}

/* What `docker stats` shows: the file cache that could be dropped at once is not in use. */
int64_t engine_parse_memory(const struct json *stats)
{
    const struct json *memory = json_get(stats, "memory_stats"), *parts = json_get(memory, "stats");
    double usage = json_number(json_get(memory, "usage"), -1), cache;

    cache = json_number(json_get(parts, "total_inactive_file"), -1); /* cgroup v1, the whole tree */
    if (cache < 0)
        cache = json_number(json_get(parts, "inactive_file"), 0);
    if (!(usage > 0 && usage < 9e18)) /* of one that does not run the engine says 0, or nothing */
        return -1;
    return (int64_t)(cache > 0 && cache < usage ? usage - cache : usage);
}

/* --- addresses ---------------------------------------------------------------------------- */

int engine_parse_port(const struct json *exposed, size_t *count)
{
    int port = 0;

    *count = 0;
    for (const struct json *it = json_first(exposed); it; it = json_next(it)) {
        struct kg_str key = kg_str_of(json_key(it));
        const char *slash = memchr(key.p, '/', key.n);
        int64_t number;
        if (slash && strcmp(slash, "/tcp") != 0)
            continue;
        key.n = slash ? (size_t)(slash - key.p) : key.n;
        if (!kg_str_to_i64(key, &number) || number < 1 || number > 65535)
            continue;
        port = (int)number;
        ++*count;
    }
    return *count == 1 ? port : 0;
}

static void set_inet(struct engine_container *c, const char *ip, int port)
{
    struct sockaddr_in *v4 = (void *)&c->address;
    struct sockaddr_in6 *v6 = (void *)&c->address;

    if (inet_pton(AF_INET, ip, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        c->address_length = sizeof *v4;
    } else if (inet_pton(AF_INET6, ip, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        c->address_length = sizeof *v6;
    }
}

static const char *ip_of(const struct json *endpoint)
{
    const char *v4 = json_string(json_get(endpoint, "IPAddress"), "");

    return *v4 ? v4 : json_string(json_get(endpoint, "GlobalIPv6Address"), "");
}

/* On our network; else, since networks are made anew, on any that gave it an address. */
static void set_own_address(const struct json *networks, const char *network, int port,
                            struct engine_container *c)
{
    const char *ip = ip_of(json_get(networks, network));

    for (const struct json *it = json_first(networks); it && !*ip; it = json_next(it))
        ip = ip_of(it);
    set_inet(c, ip, port);
}

static void set_published(const struct json *ports, const char *ip, int port,
                          struct engine_container *c)
{
    char key[16];
    int64_t number;

    snprintf(key, sizeof key, "%d/tcp", port);
    for (const struct json *it = json_first(json_get(ports, key)); it; it = json_next(it)) {
        const char *host_port = json_string(json_get(it, "HostPort"), "");
        if (!kg_str_to_i64(kg_str_of(host_port), &number) || number < 1 || number > 65535)
            continue;
        set_inet(c, ip, (int)number);
        return;
    }
}

void engine_parse_address(const struct json *inspect, const struct engine_where *where,
                          struct engine_container *c)
{
    struct sockaddr_un *un = (void *)&c->address;
    const struct json *settings = json_get(inspect, "NetworkSettings");
    size_t count;
    int port = where->port;

    if (c->state != ENGINE_RUNNING && c->state != ENGINE_PAUSED)
        return;
    if (where->socket_path) {
        if (kg_str_copy(un->sun_path, sizeof un->sun_path, kg_str_of(where->socket_path))) {
            un->sun_family = AF_UNIX;
            c->address_length = sizeof *un;
        }
        return;
    }
    if (port == 0)
        port = engine_parse_port(json_path(inspect, "Config.ExposedPorts"), &count);
    if (port < 1 || port > 65535)
        return;
    if (c->sandbox[0])
        c->port = where->reach == REACH_PUBLISHED ? 0 : port;
    else if (where->reach == REACH_PUBLISHED)
        set_published(json_get(settings, "Ports"), where->published_ip, port, c);
    else
        set_own_address(json_get(settings, "Networks"), where->network, port, c);
}

void engine_parse_ip(const struct json *inspect, const char *network, struct engine_container *c)
{
    if (c->state == ENGINE_RUNNING || c->state == ENGINE_PAUSED)
        set_own_address(json_path(inspect, "NetworkSettings.Networks"), network, 0, c);
}

/* --- events ------------------------------------------------------------------------------- */

static bool parse_action(const char *action, enum engine_event_kind *kind)
{
    static const struct {
        const char *name;
        enum engine_event_kind kind;
    } rows[] = {
        {"create", ENGINE_EVENT_CREATE},   {"start", ENGINE_EVENT_START},
        {"die", ENGINE_EVENT_DIE},         {"died", ENGINE_EVENT_DIE},
        {"oom", ENGINE_EVENT_OOM},         {"pause", ENGINE_EVENT_PAUSE},
        {"unpause", ENGINE_EVENT_UNPAUSE}, {"rename", ENGINE_EVENT_RENAME},
        {"destroy", ENGINE_EVENT_DESTROY}, {"remove", ENGINE_EVENT_DESTROY},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(action, rows[i].name) == 0) {
            *kind = rows[i].kind;
            return true;
        }
    }
    return false;
}

static int64_t time_of(const struct json *n)
{
    double ns = json_number(json_get(n, "timeNano"), 0);

    if (ns <= 0)
        ns = json_number(json_get(n, "time"), 0) * 1e9;
    return ns > 0 && ns < 9e18 ? (int64_t)ns : 0;
}

bool engine_parse_event(const struct json *n, const char *owner, struct engine_event *event,
                        int64_t *time_ns)
{
    const struct json *actor = json_get(n, "Actor"), *attributes = json_get(actor, "Attributes");
    struct engine_container *c = &event->container;
    int64_t exit_code;

    *event = (struct engine_event){0};
    *time_ns = time_of(n);
    if (strcmp(json_string(json_get(n, "Type"), "container"), "container") != 0 ||
        !parse_action(json_string(json_get(n, "Action"), ""), &event->kind))
        return false;
    parse_labels(attributes, c);
    set_text(c->id, sizeof c->id, json_string(json_get(actor, "ID"), ""));
    set_name(c, json_string(json_get(attributes, "name"), ""));
    if (kg_str_to_i64(kg_str_of(json_string(json_get(attributes, "exitCode"), "")), &exit_code))
        c->exit_code = to_int((double)exit_code);
    return c->id[0] && strcmp(c->owner, owner) == 0;
}

void engine_lines_feed(struct engine_lines *l, struct kg_str bytes, engine_line *each, void *arg)
{
    while (bytes.n > 0) {
        const char *end = memchr(bytes.p, '\n', bytes.n);
        size_t n = end ? (size_t)(end - bytes.p) : bytes.n;
        if (!l->skipping && kg_buf_append(&l->line, bytes.p, n) != 0)
            l->skipping = true;
        if (!end)
            return;
        if (!l->skipping && kg_str_trim(kg_buf_str(&l->line)).n > 0)
            each(arg, kg_buf_str(&l->line));
        kg_buf_clear(&l->line);
        l->skipping = false;
        bytes.p += n + 1;
        bytes.n -= n + 1;
    }
}

/* --- words and codes ---------------------------------------------------------------------- */

/* The end of what fits into n bytes without a torn UTF-8 sequence. */
static size_t whole_utf8(const char *p, size_t n)
{
    size_t back = n;

    while (back > 0 && n - back < 3 && ((unsigned char)p[back - 1] & 0xc0) == 0x80)
        back--;
    if (back > 0 && (unsigned char)p[back - 1] >= 0xc0) {
        unsigned char lead = (unsigned char)p[back - 1];
        size_t need = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
        return n - back + 1 < need ? back - 1 : n;
    }
    return n;
}

void engine_clean_words(char *out, size_t cap, struct kg_str text)
{
    size_t n = 0;
    bool cut = false;

    for (size_t i = 0; i < text.n && !(cut = n == cap - 1); i++) {
        char c = (unsigned char)text.p[i] < 0x20 || text.p[i] == 0x7f ? ' ' : text.p[i];
        if (c != ' ' || (n > 0 && out[n - 1] != ' ')) /* runs of blanks say nothing */
            out[n++] = c;
    }
    if (cut)
        n = whole_utf8(out, n);
    while (n > 0 && out[n - 1] == ' ')
        n--;
    out[n] = '\0';
}

void engine_parse_message(struct kg_str body, char *out, size_t cap)
{
    struct json *n = engine_json(body);
    const char *message = json_string(json_get(n, "message"), NULL);

    engine_clean_words(out, cap, message ? kg_str_of(message) : body);
    json_free(n);
}

static int code_of_status(int status)
{
    switch (status) {
    case 304:
        return 0;
    case 400:
        return KG_EINVAL;
    case 404:
        return KG_ENOTFOUND;
    case 409:
        return KG_ECONFLICT;
    default:
        return status >= 200 && status < 300 ? 0 : KG_EIO;
    }
}

/* Is a refusal only another way to say that it was so already? */
static bool is_already(enum engine_kind kind, int status, const char *words)
{
    if (kind == KIND_STOP)
        return status == 304 || status == 404;
    if (kind == KIND_START)
        return status == 304;
    if (kind == KIND_PAUSE)
        return status >= 400 && strstr(words, "already paused");
    return kind == KIND_REMOVE &&
           (status == 404 || (status == 409 && strstr(words, "already in progress")));
}

/* The one that was chosen for it: somebody has it, or the network is another one now. */
static bool is_address_unusable(const char *words)
{
    static const char *const all[] = {"Address already in use", "already allocated to",
                                      "does not belong to any of this network",
                                      "no configured subnet", "with user configured subnets"};
    bool found = false;

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        found |= strstr(words, all[i]) != NULL;
    return found;
}

void engine_judge(enum engine_kind kind, const struct transport_answer *from,
                  struct engine_answer *to)
{
    to->status = from->status;
    to->code = from->code;
    to->already = false;
    to->words[0] = '\0';
    if (from->code != 0) {
        engine_clean_words(to->words, sizeof to->words, kg_str_of(from->words));
        return;
    }
    to->code = code_of_status(from->status);
    if (to->code != 0)
        engine_parse_message(from->body, to->words, sizeof to->words);
    if (kind == KIND_START && to->code != 0 && is_address_unusable(to->words))
        to->code = KG_EAGAIN;
    to->already = is_already(kind, from->status, to->words);
    if (to->already) {
        to->code = 0;
        to->words[0] = '\0';
    }
}

/* "network x not found", "No such network: x" and their kin, but not the name of a missing
 * container, or of a program that is not in the image, that happens to contain the word. */
bool engine_network_is_missing(const struct engine_answer *a)
{
    if (a->status != 404 && a->status != 500 && a->status != 400)
        return false;
    if (strncmp(a->words, "No such container", 17) == 0 ||
        strncmp(a->words, "No such image", 13) == 0 || strstr(a->words, "OCI runtime"))
        return false;
    return strstr(a->words, "network") &&
           (strstr(a->words, "not found") || strstr(a->words, "o such network"));
}

bool engine_valid_id(const char *id)
{
    size_t n = strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");

    return n > 0 && id[n] == '\0' && n < ENGINE_NAME_BYTES && !strchr("_.-", id[0]);
}

/* --- references --------------------------------------------------------------------------- */

/* What goes into a path of the engine's: nothing that could climb out of it or end it. */
static bool is_plain(const char *image)
{
    size_t n = strspn(image, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                             "_.-/:@[]");

    return n > 0 && image[n] == '\0' && n <= ENGINE_MAX_REFERENCE_BYTES && !strstr(image, "..") &&
           !strstr(image, "//") && !strstr(image, "/.") && image[0] != '/' && image[0] != '.' &&
           image[n - 1] != '/';
}

/* The first component is a registry when it looks like a host. */
static struct kg_str host_of(const char *name)
{
    const char *slash = strchr(name, '/');
    struct kg_str first = {name, slash ? (size_t)(slash - name) : 0};

    if (first.n == 0 || (!memchr(first.p, '.', first.n) && !memchr(first.p, ':', first.n) &&
                         !kg_str_eq(first, KG_STR("localhost"))))
        return KG_STR("docker.io");
    if (kg_str_eq(first, KG_STR("index.docker.io")))
        return KG_STR("docker.io");
    return first;
}

int engine_parse_reference(const char *image, struct engine_reference *r)
{
    const char *at = strchr(image, '@'), *name_end, *slash, *colon;

    if (!is_plain(image))
        return KG_EINVAL;
    set_text(r->repository, sizeof r->repository, image);
    if (at)
        r->repository[at - image] = '\0';
    slash = strrchr(r->repository, '/');
    colon = strchr(slash ? slash : r->repository, ':');
    name_end = colon ? colon : r->repository + strlen(r->repository);
    if (!kg_str_copy(r->tag, sizeof r->tag, kg_str_of(at ? at + 1 : colon ? colon + 1 : "latest")))
        return KG_EINVAL;
    r->repository[name_end - r->repository] = '\0';
    if (!kg_str_copy(r->host, sizeof r->host, host_of(r->repository)))
        return KG_EINVAL;
    return r->tag[0] && r->repository[0] ? 0 : KG_EINVAL;
}
