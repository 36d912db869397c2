/* SPDX-License-Identifier: Apache-2.0 */
/* Where a configuration comes from: file, then environment, then flags. The difficulty: three
 * sources of different shape must set the same keys by the same rules. */
#include "orchestrator/config_priv.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DEFAULT_FILE "/etc/kipgate/kipgate.json"

struct load {
    struct config *config;
    struct config_errors *errors;
    struct config_service *service; /* the one that flags and environment speak of, while any do */
    char name[KG_MAX_NAME_BYTES + 1];
    const char *file;
    bool file_named;
};

void config_errors_fini(struct config_errors *e)
{
    kg_buf_fini(&e->text);
}

void config_free(struct config *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->service_count; i++)
        config_service_free(c->services[i]);
    config_strings_fini(&c->listen);
    free(c->services);
    free(c->admin);
    free(c->engine);
    free(c->engine_cert_path);
    free(c->owner);
    free(c->state_dir);
    free(c->access_log);
    free(c);
}

static struct config *config_new(void)
{
    struct config *c = calloc(1, sizeof *c);

    KG_ASSERT(c);
    c->log_format = isatty(STDERR_FILENO) ? KG_LOG_TEXT : KG_LOG_JSON;
    config_set_defaults(c, config_top_keys);
    return c;
}

/* --- the file
 * ------------------------------------------------------------------------------------------- */

static char *read_whole(const char *path, size_t *n)
{
    struct kg_buf b;
    char piece[65536];
    size_t got;
    FILE *f = fopen(path, "re");

    if (!f)
        return NULL;
    kg_buf_init(&b, KG_MAX_CONFIG_BYTES);
    while ((got = fread(piece, 1, sizeof piece, f)) > 0)
        kg_buf_append(&b, piece, got);
    if (ferror(f))
        b.error = KG_EIO;
    fclose(f);
    *n = b.len;
    return kg_buf_take(&b);
}

/* A syntax error has a place but no path: it is told by its offset alone. */
static void tell_syntax(const struct config_source *from, size_t at)
{
    size_t line = 1, column = 1;

    for (size_t i = 0; i < at && i < from->text.n; i++) {
        column++;
        if (from->text.p[i] == '\n') {
            line++;
            column = 1;
        }
    }
    kg_buf_printf(&from->errors->text, "%s:%zu:%zu: not valid JSON\n", from->name, line, column);
    from->errors->count++;
}

static void load_text(struct config *c, const struct config_source *from)
{
    struct config_path top = {.count = 0};
    size_t at = 0;
    struct json *root =
        json_parse(from->text, KG_MAX_CONFIG_BYTES, KG_ENGINE_MAX_JSON_DEPTH, &at, NULL);

    if (!root)
        tell_syntax(from, at);
    else if (json_type(root) != JSON_OBJECT)
        config_error(from, &top, "must be an object");
    else
        config_read_object(c, config_top_keys, root, from, &top);
    json_free(root);
}

static char *load_file(struct load *l)
{
    struct config_source from = {.name = l->file, .errors = l->errors};
    struct config_path top = {.count = 0};
    char *text = read_whole(l->file, &from.text.n);

    from.text.p = text;
    if (text)
        load_text(l->config, &from);
    else if (l->file_named)
        config_error(&from, &top, "%s", strerror(errno));
    return text;
}

/* --- environment and flags
 * --------------------------------------------------------------------------------- */

/* A service named after its image: "a/imaginary:1" is "imaginary". */
static void name_of_image(const char *image, char out[KG_MAX_NAME_BYTES + 1])
{
    const char *slash = strrchr(image, '/');
    size_t n = 0;

    for (const char *p = slash ? slash + 1 : image; *p && *p != ':' && *p != '@'; p++)
        if (n < KG_MAX_NAME_BYTES && (isalnum((unsigned char)*p) || (n > 0 && *p == '-')))
            out[n++] = (char)tolower((unsigned char)*p);
        else if (n > 0 && n < KG_MAX_NAME_BYTES)
            out[n++] = '-';
    out[n] = '\0';
    if (n == 0)
        kg_str_copy(out, KG_MAX_NAME_BYTES + 1, KG_STR("service"));
}

/* Text from a flag or a variable as the JSON its key takes: lists grow by repetition. */
static struct json *value_of(const struct config_key *key, const void *object, const char *text,
                             bool again)
{
    const struct config_strings *list = (const void *)((const char *)object + key->offset);
    struct json *v;

    if (text[0] == '[' || text[0] == '{') {
        v = json_parse(kg_str_of(text), KG_MAX_CONFIG_BYTES, 16, NULL, NULL);
        if (v)
            return v;
    }
    v = json_new_array();
    if (key->type == CONFIG_ROUTES && again) {
        const struct config_service *s = object;
        for (size_t i = 0; i < s->route_count; i++) {
            char route[KG_MAX_ROUTE_BYTES * 2];
            snprintf(route, sizeof route, "%s%s", s->routes[i].host, s->routes[i].prefix);
            json_push_string(v, route);
        }
    }
    for (size_t i = 0; key->type == CONFIG_LIST && again && i < list->count; i++)
        json_push_string(v, list->items[i]);
    json_push_string(v, text);
    return v;
}

static void set_from_text(struct load *l, void *object, const struct config_key *key,
                          const char *text, const char *source, bool again)
{
    struct config_source from = {.name = source, .errors = l->errors, .from_text = true};
    struct config_path at = {.parts = {key->name}, .count = 1};
    struct json *v = value_of(key, object, text, again);
    bool whole = json_type(v) != JSON_ARRAY || key->type == CONFIG_LIST ||
                 key->type == CONFIG_ROUTES || key->type == CONFIG_QUIET;

    config_set(object, key, whole ? v : json_first(v), &from, &at);
    json_free(v);
}

static struct config_service *flag_service(struct load *l)
{
    if (!l->service)
        l->service = config_service_new("service");
    return l->service;
}

/* A name as in "--idle-timeout" or "KIPGATE_IDLE_TIMEOUT" as a key's. */
static bool to_key(struct kg_str from, char *out, size_t cap)
{
    if (!kg_str_copy(out, cap, from))
        return false;
    for (; *out; out++)
        *out = *out == '-' ? '_' : (char)tolower((unsigned char)*out);
    return true;
}

/* False: no key of that name. */
static bool set_named(struct load *l, const char *name, const char *text, const char *source,
                      bool again)
{
    const struct config_key *key = config_key_find(config_top_keys, name);

    if (key && key->type != CONFIG_SERVICES) {
        set_from_text(l, l->config, key, text, source, again);
        return true;
    }
    key = config_key_find(config_service_keys, name);
    if (!key)
        return false;
    set_from_text(l, flag_service(l), key, text, source, again);
    return true;
}

static void load_environment(struct load *l)
{
    extern char **environ;
    char name[64], key[64];

    for (char **e = environ; *e; e++) {
        const char *equals = strchr(*e, '=');
        if (strncmp(*e, "KIPGATE_", 8) != 0 || !equals ||
            !kg_str_copy(name, sizeof name, (struct kg_str){*e, (size_t)(equals - *e)}) ||
            !to_key(kg_str_of(name + 8), key, sizeof key))
            continue;
        if (strcmp(key, "name") == 0)
            kg_str_copy(l->name, sizeof l->name, kg_str_of(equals + 1));
        else if (strcmp(key, "config") != 0) /* others may be there for others: no error */
            set_named(l, key, equals + 1, name, false);
    }
}

static bool is_switch(const char *key)
{
    const struct config_key *k = config_key_find(config_top_keys, key);

    if (!k)
        k = config_key_find(config_service_keys, key);
    return k && (k->type == CONFIG_BOOLEAN || k->type == CONFIG_MAYBE);
}

static void tell_flag(struct load *l, const char *flag, const char *words)
{
    kg_buf_printf(&l->errors->text, "%.80s: %s\n", flag, words);
    l->errors->count++;
}

struct seen_flags {
    char keys[64][40];
    size_t count;
};

static bool seen_before(struct seen_flags *seen, const char *key)
{
    for (size_t i = 0; i < seen->count; i++)
        if (strcmp(seen->keys[i], key) == 0)
            return true;
    if (seen->count < sizeof seen->keys / sizeof *seen->keys)
        kg_str_copy(seen->keys[seen->count++], sizeof seen->keys[0], kg_str_of(key));
    return false;
}

/* One flag at argv[i]; returns how many words it took. */
static int load_flag(struct load *l, int argc, char **argv, int i, struct seen_flags *seen)
{
    const char *flag = argv[i], *equals = strchr(flag, '='), *text;
    char key[64];
    int took = 1;

    if (strncmp(flag, "--", 2) != 0 ||
        !to_key((struct kg_str){flag + 2, equals ? (size_t)(equals - flag - 2) : strlen(flag + 2)},
                key, sizeof key)) {
        tell_flag(l, flag, "not an option; see kipgate --help");
        return 1;
    }
    if (equals)
        text = equals + 1;
    else if (is_switch(key))
        text = "true";
    else if (i + 1 < argc)
        text = argv[i + took++];
    else {
        tell_flag(l, flag, "needs a value");
        return 1;
    }
    if (strcmp(key, "name") == 0)
        kg_str_copy(l->name, sizeof l->name, kg_str_of(text));
    else if (strcmp(key, "config") != 0 && !set_named(l, key, text, flag, seen_before(seen, key)))
        tell_flag(l, flag, "unknown option; see kipgate --help");
    return took;
}

static void find_file(struct load *l, int argc, char **argv)
{
    const char *named = getenv("KIPGATE_CONFIG");

    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "--config=", 9) == 0)
            named = argv[i] + 9;
        else if (strcmp(argv[i], "--config") == 0 && i + 1 < argc)
            named = argv[i + 1];
    }
    l->file = named ? named : DEFAULT_FILE;
    l->file_named = named != NULL;
}

/* The service of the flags joins the others under its name. */
static void join_service(struct load *l)
{
    struct config_source from = {.name = "--name", .errors = l->errors};
    struct config_path at = {.count = 0};

    if (!l->service)
        return;
    if (!l->name[0] && l->service->image)
        name_of_image(l->service->image, l->name);
    if (!l->service->image) {
        from.name = "--image";
        config_error(&from, &at, "options of a service need the image they are for");
        config_service_free(l->service);
        return;
    }
    if (!config_name_ok(l->name))
        config_error(&from, &at, "a name is [a-z0-9][a-z0-9-]{0,%d}", KG_MAX_NAME_BYTES - 1);
    kg_str_copy(l->service->name, sizeof l->service->name, kg_str_of(l->name));
    config_add_service(l->config, l->service);
}

struct config *config_load(int argc, char **argv, struct config_errors *errors)
{
    struct load l = {.config = config_new(), .errors = errors};
    struct config_source from = {.errors = errors};
    struct seen_flags seen = {.count = 0};
    char *text;

    if (errors->text.max == 0)
        kg_buf_init(&errors->text, KG_MAX_CONFIG_BYTES);
    find_file(&l, argc, argv);
    text = load_file(&l);
    load_environment(&l);
    for (int i = 0; i < argc;)
        i += load_flag(&l, argc, argv, i, &seen);
    join_service(&l);
    from.name = text ? l.file : "configuration";
    from.text = text && errors->count == 0 ? kg_str_of(text) : (struct kg_str){NULL, 0};
    config_complete(l.config, &from);
    free(text);
    if (errors->count == 0)
        return l.config;
    config_free(l.config);
    return NULL;
}

/* --- copies for the admin API
 * -------------------------------------------------------------------------------- */

/* By way of its own text: what is printed is what is read. */
static struct config *config_copy(const struct config *c)
{
    struct config_errors errors = {0};
    struct config_source from = {.name = "copy", .errors = &errors};
    struct config *copy = config_new();
    struct kg_buf text;

    kg_buf_init(&errors.text, 4096);
    kg_buf_init(&text, KG_MAX_CONFIG_BYTES);
    config_print(c, &text);
    from.text = kg_buf_str(&text);
    load_text(copy, &from);
    KG_ASSERT(errors.count == 0);
    kg_buf_fini(&text);
    config_errors_fini(&errors);
    copy->engine_tls = c->engine_tls;
    copy->engine_cert_path = c->engine_cert_path ? strdup(c->engine_cert_path) : NULL;
    return copy;
}

static struct config *completed(struct config *c, const struct config_source *from)
{
    if (from->errors->count == 0)
        config_complete(c, from);
    if (from->errors->count == 0)
        return c;
    config_free(c);
    return NULL;
}

struct config *config_with_service(const struct config *base, const char *name, struct kg_str json,
                                   const char *at, struct config_errors *errors)
{
    struct config_source from = {.name = at, .text = json, .errors = errors};
    struct config_path top = {.count = 0};
    struct config *c = config_copy(base);
    struct config_service *s;
    struct json *root;
    size_t fault = 0;

    if (!config_name_ok(name)) {
        config_error(&from, &top, "a name is [a-z0-9][a-z0-9-]{0,%d}", KG_MAX_NAME_BYTES - 1);
        return completed(c, &from);
    }
    root = json_parse(json, KG_LOCAL_BODY_BYTES, KG_ENGINE_MAX_JSON_DEPTH, &fault, NULL);
    s = config_service_new(name);
    if (!root)
        tell_syntax(&from, fault);
    else if (json_type(root) != JSON_OBJECT)
        config_error(&from, &top, "must be an object");
    else
        config_read_object(s, config_service_keys, root, &from, &top);
    json_free(root);
    config_add_service(c, s);
    return completed(c, &from);
}

struct config *config_without_service(const struct config *base, const char *name,
                                      struct config_errors *errors)
{
    struct config_source from = {.name = name, .errors = errors};
    struct config_path top = {.count = 0};
    struct config *c = config_copy(base);
    size_t at = 0;

    while (at < c->service_count && strcmp(c->services[at]->name, name) != 0)
        at++;
    if (at == c->service_count) {
        config_error(&from, &top, "no such service");
        return completed(c, &from);
    }
    config_service_free(c->services[at]);
    c->service_count--;
    memmove(c->services + at, c->services + at + 1, (c->service_count - at) * sizeof *c->services);
    return completed(c, &from);
}

static bool same_text(const char *a, const char *b)
{
    return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

static bool same_list(const struct config_strings *a, const struct config_strings *b)
{
    bool same = a->count == b->count;

    for (size_t i = 0; same && i < a->count; i++)
        same = strcmp(a->items[i], b->items[i]) == 0;
    return same;
}

bool config_may_replace(const struct config *now, const struct config *next,
                        struct config_errors *errors)
{
    const struct {
        const char *key;
        bool same;
    } fixed[] = {
        {"listen", same_list(&now->listen, &next->listen)},
        {"admin", same_text(now->admin, next->admin)},
        {"engine", same_text(now->engine, next->engine)},
        {"owner", same_text(now->owner, next->owner)},
        {"state_dir", same_text(now->state_dir, next->state_dir)},
        {"fronts", now->fronts == next->fronts},
        {"access_log", same_text(now->access_log, next->access_log)},
    };
    bool may = true;

    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (!fixed[i].same) {
            kg_buf_printf(&errors->text, "%s: cannot change while running: restart Kipgate\n",
                          fixed[i].key);
            errors->count++;
            may = false;
        }
    return may;
}

const struct config_service *config_find(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->service_count; i++)
        if (strcmp(c->services[i]->name, name) == 0)
            return c->services[i];
    return NULL;
}
