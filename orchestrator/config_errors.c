/* SPDX-License-Identifier: Apache-2.0 */
/* Errors of a configuration, each with its place. The difficulty: the same mistake may stand in a
 * file, in a variable or behind a flag, and each has its own way to name the place. */
#include "orchestrator/config_priv.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_PATH_TEXT 4096
#define MAX_WORDS 1024

void config_errors_fini(struct config_errors *e)
{
    kg_buf_fini(&e->text);
    e->count = 0;
}

static bool holds(const struct json *n, const struct json *wanted)
{
    if (n == wanted)
        return true;
    for (const struct json *c = json_first(n); c; c = json_next(c))
        if (holds(c, wanted))
            return true;
    return false;
}

/* The key of the root's member that holds the node; "" for the root itself. */
static const char *member_of(const struct json *root, const struct json *node)
{
    for (const struct json *c = json_first(root); c; c = json_next(c))
        if (holds(c, node))
            return json_key(c);
    return "";
}

static void place_in_text(struct kg_buf *out, const struct config_source *source,
                          const struct json *node, bool at_key, const char *below)
{
    struct kg_buf path;
    size_t line, column, at;

    kg_buf_init(&path, MAX_PATH_TEXT);
    at = config_locate_node(source, node, at_key, &path);
    config_locate_line(source, at, &line, &column);
    kg_buf_printf(out, "%s:%zu:%zu: %s", source->name, line, column,
                  path.data && path.len ? path.data : "");
    if (below)
        kg_buf_printf(out, "%s%s", path.len ? "." : "", below);
    else if (path.len == 0)
        kg_buf_puts(out, "(document)");
    kg_buf_fini(&path);
}

static void place_outside(struct kg_buf *out, const struct config_source *source,
                          const struct json *node, const char *below)
{
    const char *key = member_of(source->root, node);
    char name[64];

    if (!*key)
        key = below ? below : "";
    if (source->kind == CONFIG_FROM_ENVIRONMENT) {
        config_variable_name(key, name);
        kg_buf_printf(out, "environment:%s", name);
    } else if (source->kind == CONFIG_FROM_FLAGS) {
        config_flag_name(key, name);
        kg_buf_puts(out, name);
    } else {
        kg_buf_printf(out, "default: %s", key);
    }
}

/* What was written since `from` is one line, whatever is quoted in it. */
static void end_line(struct config_errors *errors, size_t from)
{
    for (size_t i = from; i < errors->text.len; i++)
        if ((unsigned char)errors->text.data[i] < ' ' || errors->text.data[i] == 0x7f)
            errors->text.data[i] = '?';
    kg_buf_puts(&errors->text, "\n");
    errors->count++;
}

void config_fail(struct config_errors *errors, const struct config_source *source,
                 const struct json *node, bool at_key, const char *below, const char *format, ...)
{
    const size_t from = errors->text.len;
    char words[MAX_WORDS];
    va_list ap;

    va_start(ap, format);
    vsnprintf(words, sizeof words, format, ap);
    va_end(ap);
    if (source->kind == CONFIG_FROM_TEXT)
        place_in_text(&errors->text, source, node, at_key, below);
    else
        place_outside(&errors->text, source, node, below);
    kg_buf_printf(&errors->text, ": %s", words);
    end_line(errors, from);
}

void config_fail_plain(struct config_errors *errors, const char *format, ...)
{
    const size_t from = errors->text.len;
    char words[MAX_WORDS];
    va_list ap;

    va_start(ap, format);
    vsnprintf(words, sizeof words, format, ap);
    va_end(ap);
    kg_buf_puts(&errors->text, words);
    end_line(errors, from);
}
