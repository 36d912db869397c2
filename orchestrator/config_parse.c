/* SPDX-License-Identifier: Apache-2.0 */
/* JSON into the configuration's structs, by the records of config_keys.c. The difficulty: one wrong
 * value must not hide the next one, so each is told and parsing goes on. */
#include "base/map.h"
#include "orchestrator/config_priv.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_SHOWN_BYTES 60
#define FIRST_DRAFTS 16
#define MAX_PATH_BYTES 4095

/* What a parser of one value works on. */
struct value {
    const struct config_key *key;
    void *of;   /* the struct */
    void *into; /* its field */
    const struct json *node;
    const struct config_source *source;
    struct config_errors *errors;
};

/* The value as it was written, cut to what a line can hold. */
static void show(const struct json *n, struct kg_buf *out)
{
    struct kg_buf text;

    kg_buf_init(&text, KG_MAX_CONFIG_BYTES);
    if (json_print(n, false, &text) == 0) {
        size_t shown = text.len;
        if (shown > MAX_SHOWN_BYTES)
            for (shown = MAX_SHOWN_BYTES;
                 shown > 0 && ((unsigned char)text.data[shown] & 0xc0) == 0x80;)
                shown--;
        kg_buf_printf(out, "%.*s%s", (int)shown, text.data, shown < text.len ? "..." : "");
    }
    kg_buf_fini(&text);
}

/* "must be EXPECTED, not VALUE": the answer to a wrong type and to a value out of range alike. */
static bool wrong(const struct value *v, const struct json *node)
{
    struct kg_buf words;

    kg_buf_init(&words, 1000);
    kg_buf_puts(&words, "must be ");
    if (node != v->node)
        kg_buf_puts(&words, "a string");
    else
        config_key_expects(v->key, &words);
    kg_buf_puts(&words, ", not ");
    show(node, &words);
    config_fail(v->errors, v->source, node, false, NULL, "%s", words.data ? words.data : "wrong");
    kg_buf_fini(&words);
    return false;
}

static bool wrong_words(const struct value *v, const struct json *node, const char *words)
{
    struct kg_buf shown;

    kg_buf_init(&shown, 1000);
    show(node, &shown);
    config_fail(v->errors, v->source, node, false, NULL, "%s %s", shown.data ? shown.data : "",
                words);
    kg_buf_fini(&shown);
    return false;
}

static bool no_memory(const struct value *v)
{
    config_fail_plain(v->errors, "out of memory");
    return false;
}

/* --- numbers ------------------------------------------------------------------------------- */

/* Sets the value, and whether a word stood for it. */
static bool set_number(const struct value *v, int64_t n, bool word)
{
    if (v->key->type == CONFIG_INT)
        *(int *)v->into = (int)n;
    else
        *(int64_t *)v->into = n;
    if (v->key->none_flag)
        *(bool *)((char *)v->of + v->key->none_flag) = word;
    return true;
}

/* One of the words that are taken beside the range. */
static bool is_none(const struct value *v)
{
    const char *text = json_string(v->node, NULL), *word;
    size_t n;

    for (int i = 0; text && (word = config_none(v->key, i, &n)); i++)
        if (strlen(text) == n && memcmp(text, word, n) == 0)
            return set_number(v, v->key->none_value + i, true);
    return false;
}

static bool parse_int(const struct value *v)
{
    double n = json_number(v->node, NAN);

    if (is_none(v))
        return true;
    if (!(n >= (double)v->key->min && n <= (double)v->key->max) || n != floor(n))
        return wrong(v, v->node);
    return set_number(v, (int64_t)n, false);
}

static bool parse_quantity(const struct value *v)
{
    const char *text = json_string(v->node, NULL);
    int64_t n;

    if (is_none(v))
        return true;
    if (v->key->type == CONFIG_DURATION && json_number(v->node, 1) == 0)
        text = "0"; /* the one duration that needs no unit */
    if (!text)
        return wrong(v, v->node);
    if ((v->key->type == CONFIG_DURATION ? kg_duration_parse(kg_str_of(text), &n)
                                         : kg_size_parse(kg_str_of(text), &n)) != 0 ||
        n < v->key->min || n > v->key->max)
        return wrong(v, v->node);
    return set_number(v, n, false);
}

static bool parse_cpus(const struct value *v)
{
    double n = json_number(v->node, NAN) * 1e9;

    if (is_none(v))
        return true;
    if (!(n >= (double)v->key->min && n <= (double)v->key->max))
        return wrong(v, v->node);
    *(int64_t *)v->into = llround(n);
    return true;
}

static bool parse_share(const struct value *v)
{
    double n = json_number(v->node, NAN);

    if (!(n >= 0 && n <= 1))
        return wrong(v, v->node);
    *(double *)v->into = n;
    return true;
}

static bool parse_bool(const struct value *v)
{
    if (json_type(v->node) != JSON_BOOL)
        return wrong(v, v->node);
    if (v->key->type == CONFIG_BOOL)
        *(bool *)v->into = json_bool(v->node, false);
    else
        *(enum config_tristate *)v->into = json_bool(v->node, false) ? CONFIG_TRUE : CONFIG_FALSE;
    return true;
}

static bool parse_word(const struct value *v)
{
    const char *text = json_string(v->node, ""), *choice;
    size_t n;

    for (int i = 0; (choice = config_choice(v->key, i, &n)); i++)
        if (strlen(text) == n && memcmp(text, choice, n) == 0) {
            *(int *)v->into = i; /* all enums of keys are as wide as an int */
            return true;
        }
    return wrong(v, v->node);
}

/* --- strings and lists --------------------------------------------------------------------- */

/* The text of a node, checked; NULL: told. */
static const char *checked_text(const struct value *v, const struct json *node, size_t max_bytes)
{
    const char *text = json_string(node, NULL), *words;

    if (!text) {
        wrong(v, node);
        return NULL;
    }
    words = strlen(text) > max_bytes ? "is too long" : NULL;
    if (!words && v->key->check)
        words = v->key->check(text);
    if (words) {
        wrong_words(v, node, words);
        return NULL;
    }
    return text;
}

static bool parse_string(const struct value *v)
{
    const char *text = checked_text(v, v->node, (size_t)v->key->max);
    char *copy;

    if (!text)
        return false;
    if (!*text)
        return wrong(v, v->node);
    copy = strdup(text);
    if (!copy)
        return no_memory(v);
    free(*(char **)v->into);
    *(char **)v->into = copy;
    return true;
}

/* "CAP_net_raw" is NET_RAW. */
static void tidy_cap(char *cap)
{
    const char *from = strncasecmp(cap, "CAP_", 4) == 0 ? cap + 4 : cap;

    for (; *from; from++)
        *cap++ = *from >= 'a' && *from <= 'z' ? (char)(*from - 'a' + 'A') : *from;
    *cap = '\0';
}

/* The name of a pair, or the whole of a string that has no '='. */
static bool name_is_known(const struct config_strings *s, const char *text)
{
    size_t n = strcspn(text, "=");

    for (size_t i = 0; i < s->count; i++)
        if (strncmp(s->items[i], text, n) == 0 && s->items[i][n] == text[n])
            return true;
    return false;
}

static bool add_item(const struct value *v, const struct json *node, const char *text)
{
    struct config_strings *list = v->into;

    if (v->key->flags & CONFIG_UNIQUE && name_is_known(list, text))
        return wrong_words(v, node, "comes twice");
    if (!config_strings_add(list, text, strlen(text)))
        return no_memory(v);
    if (v->key->flags & CONFIG_CAPS)
        tidy_cap(list->items[list->count - 1]);
    return true;
}

/* A member of {"NAME": "value"} as "NAME=value". */
static bool add_member(const struct value *v, const struct json *member)
{
    const char *text = json_string(member, NULL), *words;
    struct kg_buf pair;
    bool good = false;

    if (!text)
        return wrong_words(v, member, "is not a string");
    if (json_get(v->node, json_key(member)) != member) {
        config_fail(v->errors, v->source, member, true, NULL, "comes twice");
        return false;
    }
    kg_buf_init(&pair, KG_MAX_CONFIG_BYTES);
    kg_buf_printf(&pair, "%s=%s", json_key(member), text);
    words = strchr(json_key(member), '=') ? "has a name with '='"
                                          : v->key->check(pair.data ? pair.data : "=");
    if (words)
        wrong_words(v, member, words);
    else
        good = pair.error ? no_memory(v) : add_item(v, member, pair.data);
    kg_buf_fini(&pair);
    return good;
}

static bool right_count(const struct value *v)
{
    size_t n = json_count(v->node);

    return n >= (size_t)v->key->min && n <= (size_t)v->key->max;
}

/* A list of a higher layer replaces the whole one below. */
static bool parse_strings(const struct value *v)
{
    bool object = v->key->type == CONFIG_PAIRS && json_type(v->node) == JSON_OBJECT, good = true;
    const char *text;

    if ((json_type(v->node) != JSON_ARRAY && !object) || !right_count(v))
        return wrong(v, v->node);
    config_strings_free(v->into);
    for (const struct json *n = json_first(v->node); n; n = json_next(n)) {
        if (object)
            good &= add_member(v, n);
        else if ((text = checked_text(v, n, KG_MAX_CONFIG_BYTES)))
            good &= add_item(v, n, text);
        else
            good = false;
    }
    return good;
}

static bool parse_routes(const struct value *v)
{
    struct config_service *s = (void *)((char *)v->into - offsetof(struct config_service, routes));
    bool good = true;

    if (json_type(v->node) != JSON_ARRAY || !right_count(v))
        return wrong(v, v->node);
    config_routes_free(s);
    for (const struct json *n = json_first(v->node); n; n = json_next(n)) {
        struct config_route r;
        const char *text = checked_text(v, n, KG_MAX_ROUTE_BYTES);
        const char *words = text ? config_check_route(text, &r) : NULL;
        if (!text || words)
            good = text ? wrong_words(v, n, words) : false;
        else if (!config_routes_add(s, r))
            return no_memory(v);
    }
    return good;
}

/* --- objects ------------------------------------------------------------------------------- */

static bool is_member(const char *const *known, const char *key)
{
    while (*known && strcmp(*known, key) != 0)
        known++;
    return *known != NULL;
}

/* A member that none of `known` names, or that came before, is told. */
static bool members_known(const struct value *v, const struct json *object,
                          const char *const *known, const char *words)
{
    bool good = true;

    for (const struct json *m = json_first(object); m; m = json_next(m)) {
        const char *what = NULL;
        if (!is_member(known, json_key(m)))
            what = "unknown key; there are ";
        else if (json_get(object, json_key(m)) != m)
            what = "comes twice among ";
        if (what)
            config_fail(v->errors, v->source, m, true, NULL, "%s%s", what, words);
        good &= what == NULL;
    }
    return good;
}

/* "200" or "200-399". */
static bool parse_statuses(const char *text, struct proxy_health *h)
{
    size_t n = strcspn(text, "-");
    int64_t least, most;

    if (!kg_str_to_i64((struct kg_str){text, n}, &least))
        return false;
    most = least;
    if (text[n] && !kg_str_to_i64(kg_str_of(text + n + 1), &most))
        return false;
    if (least < 100 || most > 599 || least > most)
        return false;
    h->status_min = (uint16_t)least;
    h->status_max = (uint16_t)most;
    return true;
}

static bool parse_health(const struct value *v)
{
    struct proxy_health h = {.status_min = 200, .status_max = 399};
    static const char *const members[] = {"path", "status", NULL};
    const struct json *path = json_get(v->node, "path"), *status = json_get(v->node, "status");
    const char *words = config_check_target(json_string(path, ""));

    if (json_type(v->node) != JSON_OBJECT)
        return wrong(v, v->node);
    if (!members_known(v, v->node, members, "\"path\" and \"status\""))
        return false;
    if (!path)
        return wrong(v, v->node);
    if (words)
        return wrong_words(v, path, words);
    if (!kg_str_copy(h.path, sizeof h.path, kg_str_of(json_string(path, ""))))
        return wrong_words(v, path, "is too long");
    if (status && !parse_statuses(json_string(status, ""), &h))
        return wrong_words(v, status, "is not a status or a range such as \"200-399\"");
    *(struct proxy_health *)v->into = h;
    return true;
}

static bool copy_pattern(const struct value *v, const struct json *object, const char *key,
                         char *out, size_t cap)
{
    const struct json *n = json_get(object, key);

    if (!n)
        return true;
    if (json_type(n) != JSON_STRING || !*json_string(n, "") ||
        !kg_str_copy(out, cap, kg_str_of(json_string(n, ""))))
        return wrong_words(v, n, "is not a pattern, or too long");
    return true;
}

static bool parse_pattern(const struct value *v, const struct json *n, struct proxy_quiet *q)
{
    static const char *const members[] = {"path", "method", "user_agent", NULL};

    if (json_type(n) != JSON_OBJECT || json_count(n) == 0)
        return wrong_words(v, n, "is not an object with \"path\", \"method\" or \"user_agent\"");
    *q = (struct proxy_quiet){.path = ""};
    return members_known(v, n, members, "\"path\", \"method\" and \"user_agent\"") &&
           copy_pattern(v, n, "path", q->path, sizeof q->path) &&
           copy_pattern(v, n, "method", q->method, sizeof q->method) &&
           copy_pattern(v, n, "user_agent", q->user_agent, sizeof q->user_agent);
}

static bool parse_quiet(const struct value *v)
{
    struct config_service *s = (void *)((char *)v->into - offsetof(struct config_service, quiet));
    bool good = true;

    if (json_type(v->node) != JSON_ARRAY || !right_count(v))
        return wrong(v, v->node);
    s->quiet_count = 0;
    for (const struct json *n = json_first(v->node); n; n = json_next(n))
        good &= parse_pattern(v, n, &s->quiet[s->quiet_count++]);
    return good;
}

/* The path of a member; NULL: told, or not there and `optional`. */
static const char *member_path(const struct value *v, const struct json *object, const char *name,
                               bool optional)
{
    const struct json *n = json_get(object, name);
    const char *text = json_string(n, NULL);

    if (text && strlen(text) <= MAX_PATH_BYTES && !config_check_path(text))
        return text;
    if (n)
        wrong_words(v, n, "is not a path");
    else if (!optional)
        config_fail(v->errors, v->source, object, false, name, "is required");
    return NULL;
}

static bool parse_certificate(const struct value *v, const struct json *n)
{
    static const char *const members[] = {"certificate", "key", "ocsp", NULL};
    const char *certificate, *key, *ocsp;

    if (json_type(n) != JSON_OBJECT)
        return wrong_words(v, n, "is not an object with \"certificate\" and \"key\"");
    if (!members_known(v, n, members, "\"certificate\", \"key\" and \"ocsp\""))
        return false;
    certificate = member_path(v, n, "certificate", false);
    key = member_path(v, n, "key", false);
    ocsp = member_path(v, n, "ocsp", true);
    if (!certificate || !key || (!ocsp && json_get(n, "ocsp")))
        return false;
    return config_certificates_add(v->into, certificate, key, ocsp) || no_memory(v);
}

static bool parse_certificates(const struct value *v)
{
    bool good = true;

    if (json_type(v->node) != JSON_ARRAY || !right_count(v))
        return wrong(v, v->node);
    config_certificates_free(v->into);
    for (const struct json *n = json_first(v->node); n; n = json_next(n))
        good &= parse_certificate(v, n);
    return good;
}

bool config_parse_value(const struct config_key *k, void *into, const struct json *node,
                        const struct config_source *source, struct config_errors *errors)
{
    static bool (*const parsers[])(const struct value *v) = {
        [CONFIG_STRING] = parse_string, [CONFIG_STRINGS] = parse_strings,
        [CONFIG_PAIRS] = parse_strings, [CONFIG_INT] = parse_int,
        [CONFIG_INT64] = parse_int,     [CONFIG_DURATION] = parse_quantity,
        [CONFIG_SIZE] = parse_quantity, [CONFIG_CPUS] = parse_cpus,
        [CONFIG_BOOL] = parse_bool,     [CONFIG_TRISTATE] = parse_bool,
        [CONFIG_WORD] = parse_word,     [CONFIG_ROUTES] = parse_routes,
        [CONFIG_HEALTH] = parse_health, [CONFIG_QUIET] = parse_quiet,
        [CONFIG_SHARE] = parse_share,   [CONFIG_CERTIFICATES] = parse_certificates,
    };
    struct value v = {k, into, (char *)into + k->offset, node, source, errors};

    return parsers[k->type](&v);
}

/* --- whole objects ------------------------------------------------------------------------- */

static void unknown_key(const struct json *m, const struct config_source *source,
                        const struct config_key *keys, const char *extra,
                        struct config_errors *errors)
{
    const char *meant = config_key_meant(keys, NULL, json_key(m));

    if (!meant && extra && strncasecmp(json_key(m), extra, 4) == 0)
        meant = extra;
    if (meant)
        config_fail(errors, source, m, true, NULL, "unknown key; did you mean \"%s\"?", meant);
    else
        config_fail(errors, source, m, true, NULL, "unknown key");
}

/* One member of an object of keys; `seen` has a bit for each. */
static void parse_member(const struct config_key *keys, void *into, const struct json *m,
                         const struct config_source *source, uint64_t *seen,
                         struct config_errors *errors)
{
    const struct config_key *k = config_key_find(keys, json_key(m));
    uint64_t bit = k ? 1ull << (k - keys) : 0;

    if (!k)
        unknown_key(m, source, keys, keys == config_top_keys ? "services" : NULL, errors);
    else if (*seen & bit)
        config_fail(errors, source, m, true, NULL, "comes twice");
    else
        config_parse_value(k, into, m, source, errors);
    *seen |= bit;
}

void config_parse_service(struct config_service *s, const struct json *object,
                          const struct config_source *source, struct config_errors *errors)
{
    uint64_t seen = 0;

    for (const struct json *m = json_first(object); m; m = json_next(m))
        parse_member(config_service_keys, s, m, source, &seen, errors);
}

struct config_draft *config_draft_find(const struct config_loading *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->drafts[i].service->name, name) == 0)
            return &l->drafts[i];
    return NULL;
}

static bool make_room(struct config_loading *l)
{
    size_t cap = l->cap ? l->cap * 2 : FIRST_DRAFTS;
    void *more;

    if (l->count < l->cap)
        return true;
    more = realloc(l->drafts, cap * sizeof *l->drafts);
    if (!more)
        return false;
    l->drafts = more;
    l->cap = cap;
    return true;
}

struct config_draft *config_draft_add(struct config_loading *l, const char *name,
                                      const struct config_source *source, const struct json *node)
{
    struct config_service *s;

    if (l->count == KG_MAX_SERVICES) {
        config_fail(l->errors, source, node, true, NULL, "more than %d services", KG_MAX_SERVICES);
        return NULL;
    }
    s = make_room(l) ? config_service_new(name) : NULL;
    if (!s) {
        config_fail_plain(l->errors, "out of memory");
        return NULL;
    }
    l->drafts[l->count] = (struct config_draft){.service = s, .source = source, .node = node};
    return &l->drafts[l->count++];
}

void config_drafts_free(struct config_loading *l)
{
    for (size_t i = 0; i < l->count; i++)
        config_service_free(l->drafts[i].service);
    free(l->drafts);
    l->drafts = NULL;
    l->count = l->cap = 0;
}

static void parse_named(struct config_loading *l, const struct config_source *source,
                        const struct json *m)
{
    const char *words = config_check_name(json_key(m));
    struct config_draft *d;

    if (words)
        config_fail(l->errors, source, m, true, NULL, "the name %s", words);
    if (json_type(m) != JSON_OBJECT) {
        config_fail(l->errors, source, m, false, NULL, "must be an object of service keys");
        return;
    }
    d = config_draft_add(l, words ? "" : json_key(m), source, m);
    if (d)
        config_parse_service(d->service, m, source, l->errors);
}

static void parse_services(struct config_loading *l, const struct config_source *source,
                           const struct json *services)
{
    struct kg_map names;

    if (json_type(services) != JSON_OBJECT) {
        config_fail(l->errors, source, services, false, NULL, "must be an object: name -> service");
        return;
    }
    kg_map_init(&names);
    for (const struct json *m = json_first(services); m; m = json_next(m)) {
        struct kg_str name = kg_str_of(json_key(m));
        if (kg_map_get(&names, name))
            config_fail(l->errors, source, m, true, NULL, "comes twice");
        else
            parse_named(l, source, m);
        if (kg_map_set(&names, name, l) != 0)
            config_fail_plain(l->errors, "out of memory");
    }
    kg_map_fini(&names);
}

void config_parse_file(struct config_loading *l, const struct config_source *source)
{
    bool services_seen = false;
    uint64_t seen = 0;

    if (json_type(source->root) != JSON_OBJECT) {
        config_fail(l->errors, source, source->root, false, NULL, "must be an object");
        return;
    }
    for (const struct json *m = json_first(source->root); m; m = json_next(m)) {
        bool services = strcmp(json_key(m), "services") == 0;
        if (services && services_seen)
            config_fail(l->errors, source, m, true, NULL, "comes twice");
        else if (services)
            parse_services(l, source, m);
        else
            parse_member(config_top_keys, l->c, m, source, &seen, l->errors);
        services_seen |= services;
    }
}
