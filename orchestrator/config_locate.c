/* SPDX-License-Identifier: Apache-2.0 */
/* Errors with their place. cJSON keeps no positions, so a place is found again by walking the text
 * along the path. The difficulty: only valid JSON comes here, so the walk may be simple. */
#include "orchestrator/config_priv.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct walk {
    const char *p, *end;
};

static void blanks(struct walk *w)
{
    while (w->p < w->end && strchr(" \t\r\n,:", *w->p))
        w->p++;
}

/* Past a string's closing quote; what was inside it. */
static struct kg_str string(struct walk *w)
{
    const char *begin = ++w->p;

    while (w->p < w->end && *w->p != '"')
        w->p += *w->p == '\\' && w->p + 1 < w->end ? 2 : 1;
    w->p = w->p < w->end ? w->p + 1 : w->end;
    return (struct kg_str){begin, (size_t)(w->p - begin - 1)};
}

static void skip_value(struct walk *w)
{
    int depth = 0;

    do {
        blanks(w);
        if (w->p >= w->end)
            return;
        if (*w->p == '"') {
            string(w);
            continue;
        }
        if (*w->p == '{' || *w->p == '[')
            depth++;
        else if (*w->p == '}' || *w->p == ']')
            depth--;
        else
            while (w->p + 1 < w->end && !strchr(" \t\r\n,:]}", w->p[1]))
                w->p++;
        w->p++;
    } while (depth > 0 && w->p < w->end);
}

/* Into the member of that name; the walk then stands at its value, *key at its key. */
static bool enter_member(struct walk *w, const char *name, unsigned occurrence, const char **key)
{
    w->p++;
    for (blanks(w); w->p < w->end && *w->p == '"'; blanks(w)) {
        *key = w->p;
        if (kg_str_eq(string(w), kg_str_of(name)) && occurrence-- == 0) {
            blanks(w);
            return true;
        }
        skip_value(w);
    }
    return false;
}

static bool enter_element(struct walk *w, int index, const char **key)
{
    w->p++;
    for (blanks(w); w->p < w->end && *w->p != ']'; blanks(w)) {
        *key = w->p;
        if (index-- == 0)
            return true;
        skip_value(w);
    }
    return false;
}

size_t config_locate(struct kg_str text, const struct config_path *at)
{
    struct walk w = {text.p, text.p + text.n};
    const char *found = text.p, *key = text.p;

    blanks(&w);
    for (unsigned i = 0; i < at->count && w.p < w.end; i++) {
        const char *part = at->parts[i];
        bool last = i + 1 == at->count, in = false;
        if (*w.p == '{')
            in = enter_member(&w, part, last ? at->occurrence : 0, &key);
        else if (*w.p == '[' && part[0] == '#')
            in = enter_element(&w, atoi(part + 1), &key);
        if (!in)
            break;
        found = key;
    }
    return (size_t)(found - text.p);
}

struct config_path config_under(const struct config_path *at, const char *part)
{
    struct config_path p = *at;

    p.occurrence = 0;
    if (p.count < CONFIG_PATH_PARTS)
        p.parts[p.count++] = part;
    return p;
}

static void put_place(struct kg_buf *out, const struct config_source *from,
                      const struct config_path *at)
{
    size_t offset, line = 1, column = 1;

    kg_buf_puts(out, from->name);
    if (from->text.n == 0)
        return;
    offset = config_locate(from->text, at);
    for (size_t i = 0; i < offset; i++) {
        column++;
        if (from->text.p[i] == '\n') {
            line++;
            column = 1;
        }
    }
    kg_buf_printf(out, ":%zu:%zu", line, column);
}

void config_error(const struct config_source *from, const struct config_path *at,
                  const char *format, ...)
{
    struct kg_buf *out = &from->errors->text;
    char words[512];
    va_list args;

    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    put_place(out, from, at);
    kg_buf_puts(out, ": ");
    for (unsigned i = 0; i < at->count; i++)
        kg_buf_printf(out, "%s%s", i && at->parts[i][0] != '#' ? "." : "", at->parts[i]);
    kg_buf_printf(out, "%s%s\n", at->count ? ": " : "", words);
    from->errors->count++;
}
