/* SPDX-License-Identifier: Apache-2.0 */
/* The log: one line per event, one write per line. The difficulty: values are strangers' bytes on
 * their way to terminals and parsers, and the reader of the pipe may have stopped reading. */
#include "base/log.h"
#include "base/clock.h"
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#define MAX_VALUE_BYTES 1024
/* A pipe takes up to PIPE_BUF in one piece: so lines of several processes do not mix, and a pipe
 * that is ready to be written to takes a whole line without blocking. */
#define MAX_LINE_BYTES PIPE_BUF
#define LINE_END_BYTES 32 /* kept free for the mark of a cut line and its end */

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static enum kg_log_level least_level = KG_LOG_INFO;
static enum kg_log_format line_format = KG_LOG_TEXT;
static char who_name[32] = "kipgate";
static char line_room[MAX_LINE_BYTES + 1]; /* what is said of a want of memory needs none */
static struct kg_buf line = {.data = line_room, .cap = sizeof line_room, .max = MAX_LINE_BYTES};
static bool half_written; /* standard error holds the begin of a line without its end */

void kg_log_setup(enum kg_log_level least, enum kg_log_format format, const char *who)
{
    struct kg_str name = kg_str_of(who);

    if (name.n >= sizeof who_name)
        name.n = sizeof who_name - 1;
    least_level = least;
    line_format = format;
    kg_str_copy(who_name, sizeof who_name, name);
}

bool kg_log_enabled(enum kg_log_level level)
{
    return level >= least_level;
}

/* The code point at p and its length in *n; -1 and *n = 1 when that is no well-formed UTF-8. */
static int32_t decode_utf8(const unsigned char *p, size_t left, size_t *n)
{
    const size_t need = p[0] < 0x80 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    int32_t c = need == 1 ? p[0] : p[0] & (0xff >> (need + 1));

    *n = 1;
    if ((p[0] >= 0x80 && p[0] < 0xc2) || p[0] > 0xf4 || left < need)
        return -1;
    for (size_t i = 1; i < need; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return -1;
        c = c << 6 | (p[i] & 0x3f);
    }
    if (c < least[need] || (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff)
        return -1;
    *n = need;
    return c;
}

/* What a terminal or a person could take for more than a character: C0 and C1 controls, the line
 * separators, and the marks that reverse the direction of what follows. */
static bool is_control(int32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

static void put_escape(struct kg_buf *out, int32_t c)
{
    switch (c) {
    case '"':
        kg_buf_puts(out, "\\\"");
        return;
    case '\\':
        kg_buf_puts(out, "\\\\");
        return;
    case '\n':
        kg_buf_puts(out, "\\n");
        return;
    case '\r':
        kg_buf_puts(out, "\\r");
        return;
    case '\t':
        kg_buf_puts(out, "\\t");
        return;
    default:
        kg_buf_printf(out, "\\u%04x", (unsigned)c);
    }
}

void kg_json_escape(struct kg_buf *out, struct kg_str s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    size_t plain = 0, n;

    for (size_t at = 0; at < s.n; at += n) {
        const int32_t c = decode_utf8(p + at, s.n - at, &n);

        if (c >= 0 && c != '"' && c != '\\' && !is_control(c))
            continue;
        kg_buf_append(out, p + plain, at - plain);
        put_escape(out, c < 0 ? p[at] : c);
        plain = at + n;
    }
    if (s.n > plain)
        kg_buf_append(out, p + plain, s.n - plain);
}

/* Cut at 1 KiB, and not inside a character. */
static struct kg_str value_of(const char *text)
{
    size_t n = strnlen(text, MAX_VALUE_BYTES + 1);

    if (n > MAX_VALUE_BYTES) {
        n = MAX_VALUE_BYTES;
        for (int i = 0; i < 3 && ((unsigned char)text[n] & 0xc0) == 0x80; i++)
            n--;
    }
    return (struct kg_str){text, n};
}

/* Bare words need no quotes in text form; everything else, and what looks like syntax, does. */
static bool is_bare(struct kg_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] > '~' || strchr("\"\\=", s.p[i]))
            return false;
    return s.n > 0;
}

static void put_quoted(struct kg_str s)
{
    kg_buf_puts(&line, "\"");
    kg_json_escape(&line, s);
    kg_buf_puts(&line, "\"");
}

static void put_field(const struct kg_log_field *f)
{
    const struct kg_str key = kg_str_of(f->key);

    if (line_format == KG_LOG_JSON) {
        kg_buf_puts(&line, ",");
        put_quoted(key);
        kg_buf_puts(&line, ":");
    } else {
        kg_buf_printf(&line, " %s=", f->key);
    }
    if (!f->text)
        kg_buf_printf(&line, "%" PRId64, f->number);
    else if (line_format == KG_LOG_TEXT && is_bare(value_of(f->text)))
        kg_buf_append(&line, f->text, value_of(f->text).n);
    else
        put_quoted(value_of(f->text));
}

static void begin_line(enum kg_log_level level, const char *event)
{
    char time[25];

    kg_clock_format(kg_clock_wall_ms(), time);
    if (line_format == KG_LOG_JSON)
        kg_buf_printf(&line, "{\"time\":\"%s\",\"level\":\"%s\",\"who\":\"%s\",\"event\":\"%s\"",
                      time, level_names[level], who_name, event);
    else
        kg_buf_printf(&line, "%s %s %s %s", time, level_names[level], who_name, event);
}

static void emit_line(void)
{
    struct pollfd ready = {STDERR_FILENO, POLLOUT, 0};
    ssize_t n;

    /* Standard error may be shared with a shell: then it is not ours to make non-blocking, and
     * asking first is the next best. Where asking fails, writing is still worth the try. */
    if (line.error || poll(&ready, 1, 0) == 0)
        return;
    n = write(STDERR_FILENO, line.data, line.len);
    if (n > 0)
        half_written = (size_t)n < line.len;
}

void kg_log_write(enum kg_log_level level, const char *event, const struct kg_log_field *fields,
                  size_t count)
{
    const int saved = errno;

    if (!kg_log_enabled(level))
        return;
    kg_buf_clear(&line);
    line.max = MAX_LINE_BYTES;
    if (half_written)
        kg_buf_puts(&line, "\n");
    begin_line(level, event);
    line.max = MAX_LINE_BYTES - LINE_END_BYTES;
    for (size_t i = 0; i < count; i++) {
        const size_t before = line.len;

        put_field(&fields[i]);
        if (line.error) { /* the line stays whole and says that it does not tell all */
            line.len = before;
            line.error = 0;
            line.max = MAX_LINE_BYTES;
            put_field(&KG_FN("cut_fields", (int64_t)(count - i)));
            break;
        }
    }
    line.max = MAX_LINE_BYTES;
    kg_buf_puts(&line, line_format == KG_LOG_JSON ? "}\n" : "\n");
    emit_line();
    errno = saved;
}
