/* SPDX-License-Identifier: Apache-2.0 */
/* What makes a container ours: a seal over its name, its labels and what it was made of.
 * The difficulty: labels can be copied and names be taken over, so what an engine says is compared
 * with what we made; and engines put the same thing in other words. */
#include "orchestrator/digest.h"
#include "orchestrator/engine_priv.h"
#include <stdio.h>
#include <stdlib.h>

#define MAX_TEXT_BYTES (1024 * 1024)
#define MAX_ITEMS 4096

/* --- what it was made of ------------------------------------------------------------------ */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Podman (4.3 was looked at) tells less, and other things, than what a container was made with: no
 * permissions of devices, no added capability that all containers have anyway, volumes without a
 * name under a random one, and of an image that was asked for by its digest a name. So there is a
 * terse form beside the whole one, which leaves these out. Only what Podman says is held against
 * it: another engine must tell all. */
struct form {
    void (*put_bind)(struct kg_buf *out, const struct json *item);
    void (*put_capability)(struct kg_buf *out, const struct json *item);
    void (*put_device)(struct kg_buf *out, const struct json *item);
    bool image;
};

/* Docker knows no such words. */
static bool is_terse(const struct json *host)
{
    return strcmp(json_string(json_get(host, "PidMode"), ""), "private") == 0 &&
           strcmp(json_string(json_get(host, "UTSMode"), ""), "private") == 0;
}

/* One line of a list, in an order of its own; `put` writes an item, or nothing. */
static void put_list(struct kg_buf *out, const char *name, const struct json *list,
                     void (*put)(struct kg_buf *out, const struct json *item))
{
    char **items = calloc(MAX_ITEMS, sizeof *items);
    size_t count = 0;

    if (!items)
        out->error = KG_ENOMEM;
    for (const struct json *it = json_first(list); items && it; it = json_next(it)) {
        struct kg_buf text;
        kg_buf_init(&text, MAX_TEXT_BYTES);
        put(&text, it);
        if (text.error || count == MAX_ITEMS)
            out->error = KG_ENOMEM;
        if (text.data && !text.error && count < MAX_ITEMS)
            items[count++] = kg_buf_take(&text);
        kg_buf_fini(&text);
    }
    kg_buf_puts(out, name);
    if (count > 0)
        qsort(items, count, sizeof *items, by_text);
    for (size_t i = 0; i < count; i++) {
        kg_buf_puts(out, " ");
        kg_buf_puts(out, items[i]);
        free(items[i]);
    }
    kg_buf_puts(out, "\n");
    free(items);
}

/* "SOURCE:INSIDE[:OPTIONS]": of the options only whether it can be written. */
static void put_bind(struct kg_buf *out, const struct json *item)
{
    struct kg_str bind = kg_str_of(json_string(item, "")), options;
    const char *colon = memchr(bind.p, ':', bind.n);
    bool read_only = false;

    colon = colon ? memchr(colon + 1, ':', (size_t)(bind.p + bind.n - colon - 1)) : NULL;
    options = kg_str_of(colon ? colon + 1 : "");
    while (options.n > 0) {
        const char *comma = memchr(options.p, ',', options.n);
        size_t n = comma ? (size_t)(comma - options.p) : options.n;
        read_only |= n == 2 && memcmp(options.p, "ro", 2) == 0;
        options.p += comma ? n + 1 : n;
        options.n -= comma ? n + 1 : n;
    }
    kg_buf_append(out, bind.p, colon ? (size_t)(colon - bind.p) : bind.n);
    kg_buf_puts(out, read_only ? ":ro" : ":rw");
}

/* Not those whose name is the engine's own: 64 hexadecimal digits. */
static void put_named_bind(struct kg_buf *out, const struct json *item)
{
    const char *bind = json_string(item, "");
    size_t n = strspn(bind, "0123456789abcdef");

    if (n != 64 || bind[n] != ':')
        put_bind(out, item);
}

/* With or without its prefix, in any case. */
static void put_capability(struct kg_buf *out, const struct json *item)
{
    struct kg_str name = kg_str_of(json_string(item, ""));

    if (name.n > 4 && kg_str_eq_nocase((struct kg_str){name.p, 4}, KG_STR("CAP_")))
        name = (struct kg_str){name.p + 4, name.n - 4};
    for (size_t i = 0; i < name.n; i++)
        kg_buf_printf(out, "%c", name.p[i] >= 'a' && name.p[i] <= 'z' ? name.p[i] - 32 : name.p[i]);
}

/* Not those that a container has if nobody says anything. */
static void put_rare_capability(struct kg_buf *out, const struct json *item)
{
    static const char *const usual[] = {
        "AUDIT_WRITE",      "CHOWN",   "DAC_OVERRIDE", "FOWNER", "FSETID",  "KILL",   "MKNOD",
        "NET_BIND_SERVICE", "NET_RAW", "SETFCAP",      "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"};
    struct kg_buf name;
    bool rare = true;

    kg_buf_init(&name, MAX_TEXT_BYTES);
    put_capability(&name, item);
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        rare &= !kg_str_eq(kg_buf_str(&name), kg_str_of(usual[i]));
    if (rare)
        kg_buf_append(out, name.data, name.len);
    if (name.error)
        out->error = name.error;
    kg_buf_fini(&name);
}

static void put_device_paths(struct kg_buf *out, const struct json *item)
{
    kg_buf_puts(out, json_string(json_get(item, "PathOnHost"), ""));
    kg_buf_puts(out, ":");
    kg_buf_puts(out, json_string(json_get(item, "PathInContainer"), ""));
    kg_buf_puts(out, ":");
}

static void put_device(struct kg_buf *out, const struct json *item)
{
    put_device_paths(out, item);
    kg_buf_puts(out, json_string(json_get(item, "CgroupPermissions"), ""));
}

/* Only what takes a wall away: engines add others of their own. */
static void put_loosening(struct kg_buf *out, const struct json *item)
{
    const char *option = json_string(item, "");

    if (strstr(option, "unconfined") || strstr(option, "disable"))
        kg_buf_puts(out, option);
}

static void put_any(struct kg_buf *out, const struct json *item)
{
    json_print(item, false, out);
}

/* The host's, another container's, none, or any other: engines name the last kind differently. */
static void put_mode(struct kg_buf *out, const char *name, const struct json *host)
{
    const char *mode = json_string(json_get(host, name), "");
    bool told = strcmp(mode, "host") == 0 || strcmp(mode, "none") == 0 ||
                kg_str_has_prefix(kg_str_of(mode), KG_STR("container:"));

    kg_buf_printf(out, "%s %s\n", name, told ? mode : "own");
}

/* "nginx" and "docker.io/library/nginx:latest" are the same. */
static void put_image(struct kg_buf *out, const char *image)
{
    static const char *const usual[] = {"docker.io/", "library/", "localhost/"};
    const char *slash;

    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        if (kg_str_has_prefix(kg_str_of(image), kg_str_of(usual[i])))
            image += strlen(usual[i]);
    slash = strrchr(image, '/');
    kg_buf_printf(out, "image %s%s\n", image,
                  strchr(slash ? slash : image, ':') || strchr(image, '@') ? "" : ":latest");
}

static const struct form whole = {put_bind, put_capability, put_device, true};
static const struct form terse = {put_named_bind, put_rare_capability, put_device_paths, true};
static const struct form terse_by_digest = {put_named_bind, put_rare_capability, put_device_paths,
                                            false};

/* "NAME@DIGEST", or an id. */
static bool is_by_digest(const char *image)
{
    const char *hex = strncmp(image, "sha256:", 7) == 0 ? image + 7 : image;
    size_t n = strspn(hex, "0123456789abcdef");

    return strchr(image, '@') || (hex[n] == '\0' && n >= 12 && n <= 64);
}

/* What its image and HostConfig let it do; what a limit is worth may change in a life. */
static int fingerprint(const struct form *form, const char *image, const struct json *host,
                       char out[65])
{
    struct kg_buf text;
    int rc;

    kg_buf_init(&text, MAX_TEXT_BYTES);
    if (form->image)
        put_image(&text, image);
    kg_buf_puts(&text, json_bool(json_get(host, "Privileged"), false) ? "privileged\n" : "\n");
    put_mode(&text, "NetworkMode", host);
    put_mode(&text, "PidMode", host);
    put_mode(&text, "IpcMode", host);
    put_mode(&text, "UTSMode", host);
    put_mode(&text, "UsernsMode", host);
    put_list(&text, "binds", json_get(host, "Binds"), form->put_bind);
    put_list(&text, "caps", json_get(host, "CapAdd"), form->put_capability);
    put_list(&text, "devices", json_get(host, "Devices"), form->put_device);
    put_list(&text, "options", json_get(host, "SecurityOpt"), put_loosening);
    put_list(&text, "mounts", json_get(host, "Mounts"), put_any);
    put_list(&text, "from", json_get(host, "VolumesFrom"), put_any);
    rc = text.error ? KG_ENOMEM : 0;
    if (rc == 0)
        digest_sha256_hex(kg_buf_str(&text), out);
    kg_buf_fini(&text);
    return rc;
}

/* --- the seal ----------------------------------------------------------------------------- */

/* No field of ours has a line end, so no other fields make the same text. Needs no memory: what is
 * ours would be taken for somebody else's where there is none. */
static void seal_of(const char *key, const struct engine_container *c, char out[65])
{
    char text[sizeof c->name + sizeof c->owner + sizeof c->service + sizeof c->spec +
              sizeof c->made_of + 32];
    int n = snprintf(text, sizeof text, "kipgate 1\n%s\n%s\n%s\n%s\n%s\n%s\n", c->name, c->owner,
                     c->service, c->spec, c->made_of, c->is_sandbox ? "sandbox" : "worker");

    KG_ASSERT(n > 0 && (size_t)n < sizeof text);
    digest_hmac_hex(kg_str_of(key), (struct kg_str){text, (size_t)n}, out);
}

/* The same over the terse form, where that is another one. */
static int seal_tersely(struct json *labels, struct engine_container c, const char *image,
                        const struct json *host, const char *key)
{
    const struct form *form = is_by_digest(image) ? &terse_by_digest : &terse;
    char made_of[65], seal[65];
    int rc = fingerprint(form, image, host, made_of);

    if (rc != 0 || strcmp(made_of, c.made_of) == 0)
        return rc;
    memcpy(c.made_of, made_of, sizeof c.made_of);
    seal_of(key, &c, seal);
    json_set_string(labels, LABEL_TERSE_SEAL, seal);
    return 0;
}

int engine_seal_labels(struct json *labels, const char *name, const char *image,
                       const struct json *host, const struct engine_ground *g)
{
    struct engine_container c = {
        .is_sandbox = json_get(labels, LABEL_SANDBOX) != NULL,
    };
    char seal[65];
    int rc;

    kg_str_copy(c.name, sizeof c.name, kg_str_of(name));
    kg_str_copy(c.owner, sizeof c.owner, kg_str_of(g->owner));
    kg_str_copy(c.service, sizeof c.service,
                kg_str_of(json_string(json_get(labels, LABEL_SERVICE), "")));
    kg_str_copy(c.spec, sizeof c.spec, kg_str_of(json_string(json_get(labels, LABEL_SPEC), "")));
    rc = fingerprint(&whole, image, host, c.made_of);
    if (rc == 0)
        rc = seal_tersely(labels, c, image, host, g->key);
    if (rc != 0)
        return rc;
    seal_of(g->key, &c, seal);
    json_set_string(labels, LABEL_MADE_OF, c.made_of);
    json_set_string(labels, LABEL_SEAL, seal);
    return 0;
}

void engine_seal_check(const char *key, struct engine_container *c)
{
    char seal[65];

    seal_of(key, c, seal);
    c->sealed = c->id[0] && digest_equal(seal, c->seal);
}

/* What it is made of, in that form, is what its terse seal is for. */
static bool is_sealed_tersely(const char *key, struct engine_container c, const char *made_of,
                              const struct json *labels)
{
    char seal[65], told[65] = "";

    memcpy(c.made_of, made_of, sizeof c.made_of);
    kg_str_copy(told, sizeof told, kg_str_of(json_string(json_get(labels, LABEL_TERSE_SEAL), "")));
    seal_of(key, &c, seal);
    return digest_equal(seal, told);
}

/* 1, 0, or KG_ENOMEM. */
static int is_made_so(const char *key, const struct json *inspect, const struct engine_container *c)
{
    const char *image = json_string(json_path(inspect, "Config.Image"), "");
    const struct json *host = json_get(inspect, "HostConfig");
    const struct json *labels = json_path(inspect, "Config.Labels");
    char made_of[65];
    int rc = fingerprint(&whole, image, host, made_of);

    if (rc != 0 || strcmp(made_of, c->made_of) == 0)
        return rc != 0 ? rc : 1;
    if (!is_terse(host))
        return 0;
    rc = fingerprint(&terse, image, host, made_of);
    if (rc != 0)
        return rc;
    if (strcmp(made_of, c->made_of) == 0 || is_sealed_tersely(key, *c, made_of, labels))
        return 1;
    rc = fingerprint(&terse_by_digest, image, host, made_of);
    return rc != 0 ? rc : is_sealed_tersely(key, *c, made_of, labels);
}

int engine_seal_compare(const char *key, const struct json *inspect, struct engine_container *c)
{
    int so = c->sealed ? is_made_so(key, inspect, c) : 0;

    c->sealed = so > 0;
    return so < 0 ? so : 0;
}
