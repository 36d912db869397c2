/* SPDX-License-Identifier: Apache-2.0 */
/* Places in JSON text: where a document breaks off, and where a node of its tree was written.
 * The difficulty: the tree knows no places; but it keeps the text's order, so both are walked in
 * step until the node is met. */
#include "orchestrator/config_priv.h"

struct scan {
    struct kg_str text;
    size_t at;
    unsigned depth;
    const char *fault;
};

static bool scan_fail(struct scan *s, const char *words)
{
    s->fault = words;
    return false;
}

static int scan_peek(const struct scan *s)
{
    return s->at < s->text.n ? (unsigned char)s->text.p[s->at] : -1;
}

static void scan_blanks(struct scan *s)
{
    while (s->at < s->text.n && strchr(" \t\r\n", s->text.p[s->at]) && s->text.p[s->at])
        s->at++;
}

/* Bytes of the well-formed character at p; 0 when it is none. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
    size_t n = p[0] < 0x80 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;

    if ((p[0] >= 0x80 && p[0] < 0xc2) || p[0] > 0xf4 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

bool config_is_utf8(struct kg_str s)
{
    for (size_t at = 0, n; at < s.n; at += n)
        if ((n = utf8_length((const unsigned char *)s.p + at, s.n - at)) == 0)
            return false;
    return true;
}

/* Four hex digits; -1 when they are not. */
static int scan_hex4(struct scan *s)
{
    int v = 0;

    for (int i = 0; i < 4; i++, s->at++) {
        int c = scan_peek(s);
        if (c >= '0' && c <= '9')
            v = v * 16 + c - '0';
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            v = v * 16 + (c | 0x20) - 'a' + 10;
        else
            return -1;
    }
    return v;
}

/* Behind "\u". A NUL would cut every string that holds it; half a pair is no character. */
static bool scan_unicode(struct scan *s)
{
    size_t begin = s->at - 2;
    int v = scan_hex4(s);

    if (v > 0 && (v < 0xd800 || v > 0xdfff))
        return true;
    if (v >= 0xd800 && v < 0xdc00 && s->at + 1 < s->text.n && s->text.p[s->at] == '\\' &&
        s->text.p[s->at + 1] == 'u') {
        s->at += 2;
        v = scan_hex4(s);
        if (v >= 0xdc00 && v <= 0xdfff)
            return true;
    }
    s->at = begin;
    return scan_fail(s, "a \\u escape that is no character");
}

static bool scan_string(struct scan *s)
{
    size_t n;

    for (s->at++; s->at < s->text.n; s->at += n) {
        int c = scan_peek(s);
        if (c == '"') {
            s->at++;
            return true;
        }
        n = utf8_length((const unsigned char *)s->text.p + s->at, s->text.n - s->at);
        if (n == 0)
            return scan_fail(s, "a byte that is not UTF-8");
        if (c < ' ')
            return scan_fail(s, "a control byte inside a string");
        if (c != '\\')
            continue;
        s->at++;
        c = scan_peek(s);
        if (c <= 0 || !strchr("\"\\/bfnrtu", c))
            return scan_fail(s, "an unknown escape behind '\\'");
        if (c == 'u') {
            s->at++;
            n = 0;
            if (!scan_unicode(s))
                return false;
        }
    }
    return scan_fail(s, "a string without its end");
}

static bool scan_digits(struct scan *s)
{
    size_t begin = s->at;

    while (scan_peek(s) >= '0' && scan_peek(s) <= '9')
        s->at++;
    return s->at > begin || scan_fail(s, "a number without digits");
}

static bool scan_number(struct scan *s)
{
    s->at += scan_peek(s) == '-';
    if (scan_peek(s) == '0')
        s->at++;
    else if (!scan_digits(s))
        return false;
    if (scan_peek(s) >= '0' && scan_peek(s) <= '9')
        return scan_fail(s, "a number that begins with 0");
    if (scan_peek(s) == '.') {
        s->at++;
        if (!scan_digits(s))
            return false;
    }
    if ((scan_peek(s) | 0x20) == 'e') {
        s->at++;
        s->at += scan_peek(s) == '-' || scan_peek(s) == '+';
        return scan_digits(s);
    }
    return true;
}

static bool scan_word(struct scan *s)
{
    static const struct kg_str words[] = {{"true", 4}, {"false", 5}, {"null", 4}};
    struct kg_str rest = {s->text.p + s->at, s->text.n - s->at};

    for (size_t i = 0; i < 3; i++)
        if (kg_str_has_prefix(rest, words[i])) {
            s->at += words[i].n;
            return true;
        }
    if (rest.n == 0)
        return scan_fail(s, "the text ends where a value is missing");
    if (kg_str_has_prefix(rest, KG_STR("\xef\xbb\xbf")))
        return scan_fail(s, "a byte order mark, which nobody sees: JSON begins without one");
    if (rest.p[0] == '/' || rest.p[0] == '#')
        return scan_fail(s, "JSON has no comments");
    return scan_fail(s, "not a JSON value");
}

static bool scan_value(struct scan *s);

static bool scan_member(struct scan *s)
{
    if (scan_peek(s) != '"')
        return scan_fail(s, "expected a name in double quotes");
    if (!scan_string(s))
        return false;
    scan_blanks(s);
    if (scan_peek(s) != ':')
        return scan_fail(s, "expected ':'");
    s->at++;
    return scan_value(s);
}

/* An array or an object. */
static bool scan_items(struct scan *s, char closing)
{
    if (++s->depth > CONFIG_MAX_JSON_DEPTH)
        return scan_fail(s, "nested too deeply");
    s->at++;
    scan_blanks(s);
    if (scan_peek(s) == closing)
        goto done;
    for (;;) {
        scan_blanks(s);
        if (!(closing == '}' ? scan_member(s) : scan_value(s)))
            return false;
        scan_blanks(s);
        if (scan_peek(s) == closing)
            break;
        if (scan_peek(s) != ',')
            return scan_fail(s, closing == '}' ? "expected ',' or '}'" : "expected ',' or ']'");
        s->at++;
    }
done:
    s->at++;
    s->depth--;
    return true;
}

static bool scan_value(struct scan *s)
{
    int c;

    scan_blanks(s);
    c = scan_peek(s);
    if (c == '{')
        return scan_items(s, '}');
    if (c == '[')
        return scan_items(s, ']');
    if (c == '"')
        return scan_string(s);
    if (c == '-' || (c >= '0' && c <= '9'))
        return scan_number(s);
    return scan_word(s);
}

const char *config_locate_fault(struct kg_str text, size_t *at)
{
    struct scan s = {.text = text};

    if (scan_value(&s)) {
        scan_blanks(&s);
        if (s.at < text.n)
            scan_fail(&s, "text behind the document");
    }
    *at = s.at;
    return s.fault;
}

/* --- in step with the tree ----------------------------------------------------------------- */

struct walk {
    struct scan scan;
    const struct json *wanted;
    struct config_marks *marks; /* may be NULL */
    unsigned level;
    bool resume, at_key, found;
    size_t place;
    struct kg_buf *path;
};

static void walk_value(struct walk *w, const struct json *n, size_t key_at);

static void walk_items(struct walk *w, const struct json *n, bool members)
{
    struct config_mark *mark =
        w->marks && w->level < CONFIG_MARKS ? &w->marks->levels[w->level] : NULL;
    struct config_mark from = {n, json_first(n), 0, w->scan.at + 1};
    size_t path_length = w->path->len, key_at, i;
    const struct json *c;

    if (mark && w->resume && mark->parent == n)
        from = *mark;
    w->scan.at = from.at;
    w->level++;
    for (c = from.child, i = from.index; c && !w->found; c = json_next(c), i++) {
        if (mark)
            *mark = (struct config_mark){n, c, i, w->scan.at};
        scan_blanks(&w->scan);
        key_at = w->scan.at;
        if (members) {
            scan_string(&w->scan);
            scan_blanks(&w->scan);
            w->scan.at++; /* ':' */
            kg_buf_puts(w->path, path_length ? "." : "");
            kg_json_escape(w->path, kg_str_of(json_key(c)));
        } else {
            kg_buf_printf(w->path, "[%zu]", i);
        }
        walk_value(w, c, key_at);
        if (w->found)
            return;
        w->path->len = path_length;
        scan_blanks(&w->scan);
        w->scan.at++; /* ',' or the end */
    }
    if (i == 0) {
        scan_blanks(&w->scan);
        w->scan.at++;
    }
    w->level--;
}

static void walk_value(struct walk *w, const struct json *n, size_t key_at)
{
    scan_blanks(&w->scan);
    if (n == w->wanted) {
        w->found = true;
        w->place = w->at_key ? key_at : w->scan.at;
        return;
    }
    if (json_type(n) == JSON_OBJECT || json_type(n) == JSON_ARRAY)
        walk_items(w, n, json_type(n) == JSON_OBJECT);
    else
        scan_value(&w->scan);
}

size_t config_locate_node(const struct config_source *source, const struct json *node, bool at_key,
                          struct kg_buf *path)
{
    struct walk w = {.found = false};

    for (bool resume = source->marks != NULL;; resume = false) {
        w = (struct walk){.scan.text = source->text,
                          .wanted = node,
                          .marks = source->marks,
                          .resume = resume,
                          .at_key = at_key,
                          .path = path};
        kg_buf_clear(path);
        walk_value(&w, source->root, 0);
        if (w.found || !resume)
            break;
    }
    if (path->data)
        path->data[path->len] = '\0';
    return w.place;
}

void config_locate_line(const struct config_source *source, size_t at, size_t *line, size_t *column)
{
    struct config_marks *m = source->marks;
    size_t i = 0;

    *line = *column = 1;
    if (m && m->line > 0 && m->at <= at) {
        i = m->at;
        *line = m->line;
        *column = m->column;
    }
    for (; i < at && i < source->text.n; i++) {
        if (source->text.p[i] == '\n') {
            ++*line;
            *column = 1;
        } else if (((unsigned char)source->text.p[i] & 0xc0) != 0x80) {
            ++*column;
        }
    }
    if (m) {
        m->at = i;
        m->line = *line;
        m->column = *column;
    }
}
