/* SPDX-License-Identifier: Apache-2.0 */
/* One line, one write. The difficulty: values come from peers and must not be able to forge a line.
 */
#include "base/log.h"
#include "base/clock.h"
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define VALUE_BYTES 1024
#define LINE_BYTES (64 * 1024)

static enum kg_log_level least_level = KG_LOG_INFO;
static enum kg_log_format line_format = KG_LOG_TEXT;
static char who_writes[32] = "kipgate";
static const char *const level_names[] = {"debug", "info", "warn", "error"};

void kg_log_setup(enum kg_log_level least, enum kg_log_format format, const char *who)
{
    least_level = least;
    line_format = format;
    kg_str_copy(who_writes, sizeof who_writes, kg_str_of(who));
}

bool kg_log_enabled(enum kg_log_level level)
{
    return level >= least_level;
}

/* Length of the valid UTF-8 sequence at p (of n bytes), 0 if there is none. */
static size_t utf8_length(const unsigned char *p, size_t n)
{
    size_t len = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : 4;

    if (p[0] >= 0x80 && (p[0] < 0xc2 || p[0] > 0xf4))
        return 0;
    if (len > n)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if (len == 3 && ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)))
        return 0;
    if (len == 4 && ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)))
        return 0;
    return len;
}

void kg_json_escape(struct kg_buf *out, struct kg_str s)
{
    for (size_t i = 0; i < s.n;) {
        const unsigned char *p = (const unsigned char *)s.p + i;
        size_t len = utf8_length(p, s.n - i);
        if (*p == '"' || *p == '\\')
            kg_buf_printf(out, "\\%c", *p);
        else if (len == 0 || *p < 0x20 || *p == 0x7f)
            kg_buf_printf(out, "\\u%04x", *p);
        else
            kg_buf_append(out, p, len);
        i += len ? len : 1;
    }
}

static struct kg_str cut(const char *text)
{
    return (struct kg_str){text, strnlen(text, VALUE_BYTES)};
}

static bool needs_quotes(struct kg_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] == '"' || s.p[i] == '\\' || s.p[i] == '=' ||
            (unsigned char)s.p[i] >= 0x7f)
            return true;
    return s.n == 0;
}

static void put_text(struct kg_buf *out, const struct kg_log_field *f)
{
    const char *quote;

    kg_buf_printf(out, " %s=", f->key);
    if (!f->text) {
        kg_buf_printf(out, "%" PRId64, f->number);
        return;
    }
    quote = needs_quotes(cut(f->text)) ? "\"" : "";
    kg_buf_puts(out, quote);
    kg_json_escape(out, cut(f->text));
    kg_buf_puts(out, quote);
}

static void put_json(struct kg_buf *out, const struct kg_log_field *f)
{
    kg_buf_printf(out, ",\"%s\":", f->key);
    if (!f->text) {
        kg_buf_printf(out, "%" PRId64, f->number);
        return;
    }
    kg_buf_puts(out, "\"");
    kg_json_escape(out, cut(f->text));
    kg_buf_puts(out, "\"");
}

void kg_log_write(enum kg_log_level level, const char *event, const struct kg_log_field *fields,
                  size_t count)
{
    bool json = line_format == KG_LOG_JSON;
    struct kg_buf line;
    char time[25];

    kg_clock_format(kg_clock_wall_ms(), time);
    kg_buf_init(&line, LINE_BYTES);
    kg_buf_printf(&line,
                  json ? "{\"time\":\"%s\",\"level\":\"%s\",\"who\":\"%s\",\"event\":\"%s\""
                       : "%s %s %s %s",
                  time, level_names[level], who_writes, event);
    for (size_t i = 0; i < count; i++)
        (json ? put_json : put_text)(&line, &fields[i]);
    kg_buf_puts(&line, json ? "}\n" : "\n");
    if (!line.error && write(STDERR_FILENO, line.data, line.len) < 0) {
        /* nobody to tell: the line is dropped */
    }
    kg_buf_fini(&line);
}
