/* SPDX-License-Identifier: Apache-2.0 */
/* The keys about TLS: how they are parsed, printed and judged together with the files they name.
 * The difficulty: a file's fault is told at the place where the file is named, which may be a line
 * of JSON, a variable or a flag. */
#include "orchestrator/certificates.h"
#include "orchestrator/config_priv.h"
#include <stdlib.h>

#define HTTPS "https://"
#define HTTP "http://"

const char *config_listen_address(const char *item, bool *secure)
{
    *secure = strncmp(item, HTTPS, sizeof HTTPS - 1) == 0;
    if (*secure)
        return item + sizeof HTTPS - 1;
    return strncmp(item, HTTP, sizeof HTTP - 1) == 0 ? item + sizeof HTTP - 1 : item;
}

const char *config_check_listen(const char *text)
{
    bool secure;
    const char *address = config_listen_address(text, &secure);

    if (address == text)
        return config_check_address(text) ? "is not host:port, [v6]:port, https://host:port or "
                                            "unix:/path"
                                          : NULL;
    return strncmp(address, "unix:", 5) == 0 || config_check_address(address)
               ? "has no host:port or [v6]:port behind its scheme"
               : NULL;
}

static const char *const protocols[] = {"h2", "http/1.1", "h2c", NULL}; /* enum proxy_protocol */

const char *config_check_protocol(const char *text)
{
    for (size_t i = 0; protocols[i]; i++)
        if (strcmp(text, protocols[i]) == 0)
            return NULL;
    return "is not a protocol: there are \"h2\", \"http/1.1\" and \"h2c\"";
}

unsigned config_protocols(const struct config *c)
{
    unsigned bits = 0;

    for (unsigned i = 0; protocols[i]; i++)
        if (config_strings_have(&c->protocols, protocols[i]))
            bits |= 1u << i;
    return bits;
}

/* --- lists of certificates ------------------------------------------------------------------- */

void config_certificates_free(struct config_certificates *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].certificate);
        free(list->items[i].key);
        free(list->items[i].ocsp);
    }
    free(list->items);
    *list = (struct config_certificates){NULL, 0};
}

bool config_certificates_add(struct config_certificates *list, const char *certificate,
                             const char *key, const char *ocsp)
{
    struct config_certificate *more = realloc(list->items, (list->count + 1) * sizeof *more), *one;

    if (!more)
        return false;
    list->items = more;
    one = &more[list->count++];
    *one =
        (struct config_certificate){strdup(certificate), strdup(key), ocsp ? strdup(ocsp) : NULL};
    return one->certificate && one->key && (one->ocsp || !ocsp);
}

bool config_certificates_copy(struct config_certificates *to,
                              const struct config_certificates *from)
{
    *to = (struct config_certificates){NULL, 0};
    for (size_t i = 0; i < from->count; i++)
        if (!config_certificates_add(to, from->items[i].certificate, from->items[i].key,
                                     from->items[i].ocsp))
            return false;
    return true;
}

void config_certificates_print(struct json *object, const char *key,
                               const struct config_certificates *list)
{
    struct json *all;

    if (list->count == 0)
        return;
    all = json_new_array();
    for (size_t i = 0; i < list->count; i++) {
        struct json *one = json_new_object();
        json_set_string(one, "certificate", list->items[i].certificate);
        json_set_string(one, "key", list->items[i].key);
        if (list->items[i].ocsp)
            json_set_string(one, "ocsp", list->items[i].ocsp);
        json_push(all, one);
    }
    json_set(object, key, all);
}

struct json *config_certificate_text(const char *text)
{
    static const char *const members[] = {"certificate", "key", "ocsp"};
    struct json *one;
    char part[4096];

    if (!strchr(text, ':'))
        return NULL;
    one = json_new_object();
    for (size_t i = 0; i < 3 && *text; i++) {
        size_t n = i < 2 ? strcspn(text, ":") : strlen(text);
        if (!kg_str_copy(part, sizeof part, (struct kg_str){text, n}))
            break;
        json_set_string(one, members[i], part);
        text += n + (text[n] == ':');
    }
    return one;
}

/* --- the files -------------------------------------------------------------------------------- */

/* The node of the highest layer that has the key, and that layer; NULL: only the default has. */
static const struct json *top_node(const struct config_loading *l, const char *key,
                                   const struct config_source **source)
{
    for (size_t i = CONFIG_LAYERS; i > 0; i--) {
        const struct json *found = l->layers[i - 1] ? json_get(l->layers[i - 1]->root, key) : NULL;
        *source = l->layers[i - 1];
        if (found)
            return found;
    }
    return NULL;
}

bool config_top_given(const struct config_loading *l, const char *key)
{
    const struct config_source *source;

    return top_node(l, key, &source) != NULL;
}

static const struct json *nth(const struct json *list, size_t index)
{
    const struct json *item = json_first(list);

    for (; item && index > 0; index--)
        item = json_next(item);
    return item;
}

void config_fail_top(struct config_loading *l, const char *key, int64_t index, const char *member,
                     const char *words)
{
    const struct config_source *source = NULL;
    const struct json *node = top_node(l, key, &source), *item, *inner;

    if (!node) {
        config_fail_plain(l->errors, "%s: %s", key, words);
        return;
    }
    if (strcmp(key, "listen") == 0 && json_count(node) != l->c->listen.count)
        index = -1; /* some of its items are wrong, and not among those that were taken */
    item = index >= 0 ? nth(node, (size_t)index) : NULL;
    inner = item && member ? json_get(item, member) : NULL;
    config_fail(l->errors, source, inner ? inner : item ? item : node, false, NULL, "%s", words);
}

static void on_fault(void *arg, size_t index, enum tls_part part, const char *words)
{
    static const char *const members[] = {"certificate", "key", "ocsp"};
    struct config_loading *l = arg;
    const char *file = certificates_file(l->c, index, part);
    struct kg_buf text;

    kg_buf_init(&text, 8192);
    kg_buf_printf(&text, "%s: %s", file ? file : "?", words);
    if (part == TLS_CLIENT_CA)
        config_fail_top(l, "client_ca", -1, NULL, text.data ? text.data : words);
    else
        config_fail_top(l, "certificates", (int64_t)index, members[part],
                        text.data ? text.data : words);
    kg_buf_fini(&text);
}

static void need_certificates(struct config_loading *l)
{
    const struct config *c = l->c;
    bool secure;

    for (size_t i = 0; i < c->listen.count; i++) {
        config_listen_address(c->listen.items[i], &secure);
        if (!secure)
            continue;
        if (c->certificates.count == 0)
            config_fail_top(l, "listen", (int64_t)i, NULL,
                            "an https:// address needs certificates");
        if (!(config_protocols(c) & (PROXY_H2 | PROXY_HTTP11)))
            config_fail_top(l, "protocols", -1, NULL,
                            "have none that an https:// address could speak: \"h2\" or "
                            "\"http/1.1\"");
        return;
    }
}

void config_complete_tls(struct config_loading *l)
{
    const struct config_source *source;
    const struct json *list = top_node(l, "certificates", &source);
    struct config *c = l->c;

    if (list && json_count(list) != c->certificates.count)
        return; /* what is wrong with it was told */
    need_certificates(l);
    if (c->certificates.count > 0)
        c->loaded = certificates_load(c, l->running ? l->running->loaded : NULL, on_fault, l);
    else if (c->client_ca)
        config_fail_top(l, "client_ca", -1, NULL, "is of no use without certificates");
}
