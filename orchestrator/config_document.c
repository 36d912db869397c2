/* SPDX-License-Identifier: Apache-2.0 */
/* Help, JSON Schema and manual page out of the records of the keys. The difficulty: lines must fit
 * a terminal, and nothing may be said here that the records do not say. */
#include "orchestrator/config_priv.h"
#include <stdio.h>

#define HELP_WIDTH 96
#define HELP_INDENT 32

/* "Default: 5m." */
static void print_default(const struct config_key *k, struct kg_buf *out)
{
    if (k->def_words)
        kg_buf_printf(out, "%s", k->def_words);
    else if (k->def)
        kg_buf_printf(out, "%s", k->def);
}

static bool has_default(const struct config_key *k)
{
    return k->def || k->def_words;
}

/* What follows the flag: "=false" for switches, a choice's words, or what it is called. */
static void print_operand(const struct config_key *k, struct kg_buf *out)
{
    if (k->type == CONFIG_BOOL || k->type == CONFIG_TRISTATE)
        kg_buf_puts(out, "[=false]");
    else
        kg_buf_printf(out, " %s%s", k->choices ? k->choices : k->meta,
                      config_key_is_list(k) ? " ..." : "");
}

/* --- help ---------------------------------------------------------------------------------- */

/* Breaks `words` into lines behind `at` columns already written. */
static void wrap(struct kg_buf *out, size_t at, const char *words)
{
    while (*words) {
        size_t n = strcspn(words, " ");
        if (at > HELP_INDENT && at + 1 + n > HELP_WIDTH) {
            kg_buf_puts(out, "\n");
            at = 0;
        }
        if (at < HELP_INDENT) {
            kg_buf_printf(out, "%*s", (int)(HELP_INDENT - at), "");
            at = HELP_INDENT;
        } else {
            kg_buf_puts(out, " ");
            at++;
        }
        kg_buf_append(out, words, n);
        at += n;
        words += n + (words[n] == ' ');
    }
    kg_buf_puts(out, "\n");
}

static void print_entry(struct kg_buf *out, const char *left, const char *words)
{
    size_t n = strlen(left) + 2;

    kg_buf_printf(out, "  %s", left);
    if (n >= HELP_INDENT) {
        kg_buf_puts(out, "\n");
        n = 0;
    }
    wrap(out, n, words);
}

static void print_key(const struct config_key *k, struct kg_buf *out)
{
    struct kg_buf left, words;
    char flag[64];

    kg_buf_init(&left, 256);
    kg_buf_init(&words, 2048);
    config_flag_name(k->name, flag);
    kg_buf_puts(&left, flag);
    print_operand(k, &left);
    kg_buf_puts(&words, k->words);
    if (has_default(k)) {
        kg_buf_puts(&words, " (");
        print_default(k, &words);
        kg_buf_puts(&words, ")");
    }
    if (left.data && words.data)
        print_entry(out, left.data, words.data);
    kg_buf_fini(&left);
    kg_buf_fini(&words);
}

void config_print_help(struct kg_buf *out)
{
    kg_buf_puts(out, "Options; in parentheses what holds without them:\n");
    print_entry(out, "--config FILE",
                "JSON file with these keys, and the object \"services\": name "
                "-> service (" CONFIG_DEFAULT_FILE ", if it is there)");
    CONFIG_EACH_KEY(k, config_top_keys)
    print_key(k, out);
    kg_buf_puts(out, "\nOptions of one service, which is made, or changed if the file has it:\n");
    print_entry(out, "--name NAME", "Its name (the last part of the image's name)");
    CONFIG_EACH_KEY(k, config_service_keys)
    print_key(k, out);
}

/* --- JSON Schema --------------------------------------------------------------------------- */

static struct json *schema_of_type(const char *type)
{
    struct json *n = json_new_object();

    json_set_string(n, "type", type);
    return n;
}

static struct json *schema_of_pattern(const char *pattern)
{
    struct json *n = schema_of_type("string");

    json_set_string(n, "pattern", pattern);
    return n;
}

/* One of two: an array for "anyOf". */
static struct json *schema_either(struct json *a, struct json *b)
{
    struct json *n = json_new_object(), *list = json_new_array();

    json_push(list, a);
    json_push(list, b);
    json_set(n, "anyOf", list);
    return n;
}

typedef const char *next_word(const struct config_key *k, int index, size_t *n);

static struct json *schema_of_words(const struct config_key *k, next_word *next)
{
    struct json *n = schema_of_type("string"), *list = json_new_array();
    const char *choice;
    char word[32];
    size_t length;

    for (int i = 0; (choice = next(k, i, &length)); i++)
        if (kg_str_copy(word, sizeof word, (struct kg_str){choice, length}))
            json_push_string(list, word);
    json_set(n, "enum", list);
    return n;
}

static struct json *schema_of_number(const struct config_key *k, double unit)
{
    struct json *n = schema_of_type(unit > 1 ? "number" : "integer");

    json_set_number(n, "minimum", (double)k->min / unit);
    json_set_number(n, "maximum", (double)k->max / unit);
    return n;
}

static struct json *schema_of_share(const struct config_key *k)
{
    struct json *n = schema_of_number(k, 1);

    json_set_string(n, "type", "number");
    return n;
}

static struct json *schema_of_list(const struct config_key *k, struct json *items)
{
    struct json *n = schema_of_type("array");

    json_set(n, "items", items);
    if (k->min > 0)
        json_set_number(n, "minItems", (double)k->min);
    json_set_number(n, "maxItems", (double)k->max);
    return n;
}

/* An object of some strings, nothing else. The first so many are required; else at least one. */
static struct json *schema_of_members(const char *const *members, size_t required)
{
    struct json *n = schema_of_type("object"), *properties = json_new_object();
    struct json *list = required ? json_new_array() : NULL;

    for (size_t i = 0; members[i]; i++) {
        json_set(properties, members[i], schema_of_type("string"));
        if (i < required)
            json_push_string(list, members[i]);
    }
    json_set(n, "properties", properties);
    json_set_bool(n, "additionalProperties", false);
    if (required)
        json_set(n, "required", list);
    else
        json_set_number(n, "minProperties", 1);
    return n;
}

static struct json *schema_of_pairs(const struct config_key *k)
{
    struct json *object = schema_of_type("object");

    json_set(object, "additionalProperties", schema_of_type("string"));
    return schema_either(schema_of_list(k, schema_of_pattern("^[^=]+=")), object);
}

static struct json *schema_of_string(const struct config_key *k)
{
    struct json *n = schema_of_type("string");

    json_set_number(n, "minLength", 1);
    json_set_number(n, "maxLength", (double)k->max);
    return n;
}

static struct json *schema_of_duration(void)
{
    struct json *zero = schema_of_type("integer");

    json_set_number(zero, "const", 0);
    return schema_either(schema_of_pattern("^(0|[0-9]+(\\.[0-9]+)?(ms|s|m|h))$"), zero);
}

static struct json *schema_of_value(const struct config_key *k)
{
    static const char *const health[] = {"path", "status", NULL};
    static const char *const quiet[] = {"path", "method", "user_agent", NULL};
    static const char *const certificate[] = {"certificate", "key", "ocsp", NULL};

    switch (k->type) {
    case CONFIG_STRINGS:
    case CONFIG_ROUTES:
        return schema_of_list(k, schema_of_type("string"));
    case CONFIG_PAIRS:
        return schema_of_pairs(k);
    case CONFIG_INT:
    case CONFIG_INT64:
        return schema_of_number(k, 1);
    case CONFIG_CPUS:
        return schema_of_number(k, 1e9);
    case CONFIG_SHARE:
        return schema_of_share(k);
    case CONFIG_DURATION:
        return schema_of_duration();
    case CONFIG_SIZE:
        return schema_of_pattern("^[0-9]+(\\.[0-9]+)?(B|KB|MB|GB|KiB|MiB|GiB)?$");
    case CONFIG_BOOL:
    case CONFIG_TRISTATE:
        return schema_of_type("boolean");
    case CONFIG_WORD:
        return schema_of_words(k, config_choice);
    case CONFIG_HEALTH:
        return schema_of_members(health, 1);
    case CONFIG_QUIET:
        return schema_of_list(k, schema_of_members(quiet, 0));
    case CONFIG_CERTIFICATES:
        return schema_of_list(k, schema_of_members(certificate, 2));
    default:
        return schema_of_string(k);
    }
}

static struct json *schema_of_key(const struct config_key *k)
{
    struct json *n = schema_of_value(k);
    struct kg_buf words;

    if (k->none)
        n = schema_either(n, schema_of_words(k, config_none));
    kg_buf_init(&words, 2048);
    kg_buf_puts(&words, k->words);
    kg_buf_puts(&words, ".");
    if (has_default(k)) {
        kg_buf_puts(&words, " Default: ");
        print_default(k, &words);
        kg_buf_puts(&words, ".");
    }
    json_set_string(n, "description", words.data ? words.data : k->words);
    kg_buf_fini(&words);
    return n;
}

static struct json *schema_of_table(const struct config_key *keys, struct json *services)
{
    struct json *n = schema_of_type("object"), *properties = json_new_object();

    CONFIG_EACH_KEY(k, keys)
    json_set(properties, k->name, schema_of_key(k));
    if (services)
        json_set(properties, "services", services);
    json_set(n, "properties", properties);
    json_set_bool(n, "additionalProperties", false);
    return n;
}

void config_print_schema(struct kg_buf *out)
{
    struct json *service = schema_of_table(config_service_keys, NULL), *required = json_new_array();
    struct json *services = schema_of_type("object"), *root;

    json_push_string(required, "image");
    json_set(service, "required", required);
    json_set(services, "propertyNames", schema_of_pattern("^[a-z0-9][a-z0-9-]{0,62}$"));
    json_set(services, "additionalProperties", service);
    json_set_string(services, "description", "The services by their names.");
    root = schema_of_table(config_top_keys, services);
    json_set_string(root, "$schema", "https://json-schema.org/draft/2020-12/schema");
    json_set_string(root, "title", "Configuration of Kipgate");
    if (json_print(root, true, out) == 0)
        kg_buf_puts(out, "\n");
    json_free(root);
}

/* --- manual page --------------------------------------------------------------------------- */

/* Text as troff takes it: backslashes and dashes as themselves, no line that begins with a dot. */
static void print_troff(struct kg_buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\\')
            kg_buf_puts(out, "\\e");
        else if (*text == '-')
            kg_buf_puts(out, "\\-");
        else
            kg_buf_append(out, text, 1);
    }
}

static void manual_key(const struct config_key *k, struct kg_buf *out)
{
    struct kg_buf text;

    kg_buf_init(&text, 4096);
    kg_buf_printf(out, ".TP\n.B %s\n", k->name);
    kg_buf_printf(&text, "%s.\nTakes ", k->words);
    config_key_expects(k, &text);
    kg_buf_puts(&text, ".");
    if (has_default(k)) {
        kg_buf_puts(&text, "\nDefault: ");
        print_default(k, &text);
        kg_buf_puts(&text, ".");
    }
    print_troff(out, text.data ? text.data : "");
    kg_buf_puts(out, "\n");
    kg_buf_fini(&text);
}

void config_print_manual(struct kg_buf *out)
{
    kg_buf_puts(out, ".SS Keys of the file\n");
    CONFIG_EACH_KEY(k, config_top_keys)
    manual_key(k, out);
    kg_buf_puts(out, ".TP\n.B services\nAn object: name of a service, then an object of the keys "
                     "below.\nNames are 1 to 63 of a\\-z, 0\\-9 and \\-, and do not begin with "
                     "\\-.\n");
    kg_buf_puts(out, ".SS Keys of a service\n");
    CONFIG_EACH_KEY(k, config_service_keys)
    manual_key(k, out);
}
