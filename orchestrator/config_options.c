/* SPDX-License-Identifier: Apache-2.0 */
/* Command line and environment into objects of keys. The difficulty: an option belongs to Kipgate
 * or to the one service that options describe, and the same word must mean the same in both ways
 * to say it. */
#include "orchestrator/config_priv.h"
#include <stdio.h>
#include <stdlib.h>

#define MAX_KEYS 64

static const char *const plain_options[] = {"config", "name", "help"};

void config_variable_name(const char *key, char out[64])
{
    size_t n = (size_t)snprintf(out, 64, "KIPGATE_%.50s", key);

    for (size_t i = 0; i < n; i++)
        if (out[i] >= 'a' && out[i] <= 'z')
            out[i] = (char)(out[i] - 'a' + 'A');
}

void config_flag_name(const char *key, char out[64])
{
    size_t n = (size_t)snprintf(out, 64, "--%.50s", key);

    for (size_t i = 0; i < n; i++)
        if (out[i] == '_')
            out[i] = '-';
}

/* --- one option ---------------------------------------------------------------------------- */

/* The option's name in keys' spelling; false when no key is that long. */
static bool key_of(const char *word, char out[64])
{
    size_t n = strcspn(word, "=");

    if (!kg_str_copy(out, 64, (struct kg_str){word, n}))
        return false;
    for (size_t i = 0; i < n; i++)
        out[i] = out[i] == '-' ? '_' : out[i] == '_' ? '-' : out[i];
    return true;
}

static void tell_unknown(const char *word, const char *key, struct kg_buf *wrong)
{
    const char *meant = config_key_meant(config_top_keys, config_service_keys, key);
    char name[64];

    kg_buf_printf(wrong, "%.*s: unknown option", (int)strcspn(word, "="), word);
    if (!meant)
        return;
    config_flag_name(meant, name);
    kg_buf_printf(wrong, "; did you mean %s?", name);
}

static bool find_option(const char *key, struct config_option *out)
{
    for (size_t i = 0; i < sizeof plain_options / sizeof *plain_options; i++)
        if (strcmp(key, plain_options[i]) == 0)
            out->plain = plain_options[i];
    out->key = config_key_find(config_top_keys, key);
    if (!out->key) {
        out->key = config_key_find(config_service_keys, key);
        out->of_service = out->key != NULL;
    }
    return out->key || out->plain;
}

static bool is_switch(const struct config_option *o)
{
    if (o->plain)
        return strcmp(o->plain, "help") == 0;
    return o->key->type == CONFIG_BOOL || o->key->type == CONFIG_TRISTATE;
}

int config_option_next(int argc, char **argv, struct config_option *out, struct kg_buf *wrong)
{
    const char *word = argc > 0 ? argv[0] : NULL;
    char key[64];

    *out = (struct config_option){.plain = NULL};
    if (!word)
        return 0;
    if (strcmp(word, "-h") == 0)
        word = "--help";
    if (strncmp(word, "--", 2) != 0 || !word[2]) {
        kg_buf_printf(wrong, "%s: unexpected argument", word);
        return -1;
    }
    if (!key_of(word + 2, key) || !find_option(key, out)) {
        tell_unknown(word, key, wrong);
        return argc > 1 && !strchr(word, '=') && argv[1][0] != '-' ? -2 : -1; /* with its value */
    }
    out->value = strchr(word, '=');
    if (out->value) {
        out->value++;
        return 1;
    }
    if (is_switch(out))
        return 1;
    if (argc < 2) {
        kg_buf_printf(wrong, "%s: needs a value", word);
        return -1;
    }
    out->value = argv[1];
    return 2;
}

/* --- all of them --------------------------------------------------------------------------- */

struct given { /* the texts of each key, in the order of its table */
    const char **texts[2][MAX_KEYS];
    size_t counts[2][MAX_KEYS];
};

static bool note(struct given *g, const struct config_option *o)
{
    const struct config_key *table = o->of_service ? config_service_keys : config_top_keys;
    size_t at = (size_t)(o->key - table), n = g->counts[o->of_service][at];
    const char **more = realloc(g->texts[o->of_service][at], (n + 1) * sizeof *more);

    if (!more)
        return false;
    more[n] = o->value ? o->value : "true";
    g->texts[o->of_service][at] = more;
    g->counts[o->of_service][at]++;
    return true;
}

static void settle(struct given *g, int of_service, const struct config_key *table,
                   struct json *object)
{
    CONFIG_EACH_KEY(k, table)
    {
        size_t at = (size_t)(k - table);
        if (g->counts[of_service][at] > 0)
            config_text_set(object, k, g->texts[of_service][at], g->counts[of_service][at]);
        free(g->texts[of_service][at]);
    }
}

static bool replace(char **at, const char *value)
{
    free(*at);
    *at = strdup(value);
    return *at != NULL;
}

static bool take_plain(struct config_options *o, const char *plain, const char *value)
{
    if (strcmp(plain, "config") == 0) {
        o->file_named = true;
        return replace(&o->file, value);
    }
    return strcmp(plain, "name") != 0 || replace(&o->service, value);
}

static bool read_flags(struct config_options *o, int argc, char **argv,
                       struct config_errors *errors)
{
    struct given g = {0};
    struct config_option option;
    struct kg_buf wrong;
    bool good = true;
    int took;

    kg_buf_init(&wrong, 1000);
    while (good && (took = config_option_next(argc, argv, &option, &wrong)) != 0) {
        if (took < 0)
            config_fail_plain(errors, "%s", wrong.data ? wrong.data : "");
        else if (option.value && !config_is_utf8(kg_str_of(option.value)))
            config_fail_plain(errors, "%s: the value is not UTF-8", argv[0]);
        else
            good = option.key ? note(&g, &option)
                              : take_plain(o, option.plain, option.value ? option.value : "");
        if (option.plain && strcmp(option.plain, "name") == 0)
            o->service_by_flag = true;
        argc -= abs(took);
        argv += abs(took);
        kg_buf_clear(&wrong);
    }
    kg_buf_fini(&wrong);
    settle(&g, 0, config_top_keys, o->flag_top);
    settle(&g, 1, config_service_keys, o->flag_service);
    return good;
}

static void read_variables(const struct config_key *table, struct json *object,
                           struct config_errors *errors)
{
    char name[64];

    CONFIG_EACH_KEY(k, table)
    {
        const char *value;
        config_variable_name(k->name, name);
        value = getenv(name);
        if (value && !config_is_utf8(kg_str_of(value)))
            config_fail_plain(errors, "environment:%s: the value is not UTF-8", name);
        else if (value && *value) /* empty is as good as unset: so compose files pass them on */
            config_text_set(object, k, &value, 1);
    }
}

static bool read_plain_variables(struct config_options *o)
{
    char name[64];

    for (size_t i = 0; i < 2; i++) {
        const char *value;
        config_variable_name(plain_options[i], name);
        value = getenv(name);
        if (value && *value && !take_plain(o, plain_options[i], value))
            return false;
    }
    return true;
}

bool config_options_read(struct config_options *o, int argc, char **argv,
                         struct config_errors *errors)
{
    struct json **objects[] = {&o->env_top, &o->env_service, &o->flag_top, &o->flag_service};

    *o = (struct config_options){.file = NULL};
    for (size_t i = 0; i < 4; i++)
        if (!(*objects[i] = json_new_object()))
            return false;
    read_variables(config_top_keys, o->env_top, errors);
    read_variables(config_service_keys, o->env_service, errors);
    return read_plain_variables(o) && read_flags(o, argc, argv, errors);
}

void config_options_fini(struct config_options *o)
{
    json_free(o->env_top);
    json_free(o->env_service);
    json_free(o->flag_top);
    json_free(o->flag_service);
    free(o->file);
    free(o->service);
}
