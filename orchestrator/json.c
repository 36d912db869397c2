/* SPDX-License-Identifier: Apache-2.0 */
/* cJSON behind our own words: struct json is a cJSON node under another name.
 * The difficulty: cJSON is lenient and recurses, so a text is checked against RFC 8259, its depth
 * too, before cJSON sees it; and it prints what Go refuses (1e+15), so printing is ours. */
#include "orchestrator/json.h"
#include "base/log.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define DEEPEST 512          /* of any caller's limit: the checker's stack, cJSON's is 1000 */
#define MAX_NUMBER_BYTES 63  /* cJSON reads numbers through a buffer of 64 */
#define EXACT_INTEGER 9.0e15 /* below 2^53: a double is that integer */

static const cJSON *in(const struct json *n)
{
    return (const cJSON *)(const void *)n;
}

static cJSON *own(struct json *n)
{
    return (cJSON *)(void *)n;
}

static struct json *out(cJSON *n)
{
    return (struct json *)(void *)n;
}

/* --- checking ----------------------------------------------------------------------------- */

struct checker {
    const char *p, *end;
    unsigned depth, max_depth;
    char closers[DEEPEST]; /* the bracket each open level waits for */
    const char *fault;     /* NULL while all is well */
    bool too_deep;
};

static bool fail(struct checker *c, const char *words)
{
    if (!c->fault)
        c->fault = words;
    return false;
}

static void skip_blanks(struct checker *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\r' || *c->p == '\n'))
        c->p++;
}

static bool next_is(struct checker *c, char wanted)
{
    if (c->p == c->end || *c->p != wanted)
        return false;
    c->p++;
    return true;
}

static size_t digits(struct checker *c)
{
    const char *from = c->p;

    while (c->p < c->end && *c->p >= '0' && *c->p <= '9')
        c->p++;
    return (size_t)(c->p - from);
}

/* Four hex digits; -1 when they are not. */
static long hex4(const char *p, const char *end)
{
    long v = 0;

    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    return v;
}

/* Behind "\u". A NUL would end a C string early, half a surrogate pair is no character. */
static bool check_unicode(struct checker *c)
{
    long v = hex4(c->p, c->end), low;

    if (v < 0)
        return fail(c, "\\u needs four hexadecimal digits");
    if (v == 0)
        return fail(c, "\\u0000 in a string");
    c->p += 4;
    if (v < 0xd800 || v > 0xdfff)
        return true;
    low = c->end - c->p >= 6 && c->p[0] == '\\' && c->p[1] == 'u' ? hex4(c->p + 2, c->end) : -1;
    if (v > 0xdbff || low < 0xdc00 || low > 0xdfff)
        return fail(c, "half a surrogate pair in a string");
    c->p += 6;
    return true;
}

static bool check_escape(struct checker *c)
{
    if (c->p == c->end)
        return fail(c, "a string without end");
    if (*c->p == 'u') {
        c->p++;
        return check_unicode(c);
    }
    if (!*c->p || !strchr("\"\\/bfnrt", *c->p))
        return fail(c, "unknown escape in a string");
    c->p++;
    return true;
}

/* One UTF-8 sequence of two bytes or more: shortest form, no surrogates, at most U+10FFFF. */
static bool check_utf8(struct checker *c)
{
    const unsigned char *p = (const unsigned char *)c->p;
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    unsigned char low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;

    if (p[0] < 0xc2 || p[0] > 0xf4 || (size_t)(c->end - c->p) < n || p[1] < low || p[1] > high)
        return fail(c, "not UTF-8");
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return fail(c, "not UTF-8");
    c->p += n;
    return true;
}

/* Behind the opening quote. */
static bool check_string(struct checker *c)
{
    while (c->p < c->end) {
        unsigned char b = (unsigned char)*c->p;
        if (b == '"') {
            c->p++;
            return true;
        }
        if (b < 0x20)
            return fail(c, "a control character in a string");
        if (b >= 0x80) {
            if (!check_utf8(c))
                return false;
            continue;
        }
        c->p++;
        if (b == '\\' && !check_escape(c))
            return false;
    }
    return fail(c, "a string without end");
}

static bool check_number(struct checker *c)
{
    const char *from = c->p;
    char text[MAX_NUMBER_BYTES + 1];

    next_is(c, '-');
    if (!next_is(c, '0') && digits(c) == 0)
        return fail(c, "a value was expected");
    if (next_is(c, '.') && digits(c) == 0)
        return fail(c, "not a number");
    if (c->p < c->end && (*c->p == 'e' || *c->p == 'E')) {
        c->p++;
        if (!next_is(c, '-'))
            next_is(c, '+');
        if (digits(c) == 0)
            return fail(c, "not a number");
    }
    if (!kg_str_copy(text, sizeof text, (struct kg_str){from, (size_t)(c->p - from)}))
        return fail(c, "a number that is too long");
    return isfinite(strtod(text, NULL)) ? true : fail(c, "a number that is too large");
}

static bool check_scalar(struct checker *c)
{
    static const char *const words[] = {"true", "false", "null"};

    if (next_is(c, '"'))
        return check_string(c);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(c->end - c->p) >= n && memcmp(c->p, words[i], n) == 0) {
            c->p += n;
            return true;
        }
    }
    return check_number(c);
}

static bool check_key(struct checker *c)
{
    skip_blanks(c);
    if (!next_is(c, '"'))
        return fail(c, "a name in quotes was expected");
    if (!check_string(c))
        return false;
    skip_blanks(c);
    return next_is(c, ':') ? true : fail(c, "':' was expected");
}

/* Enters a level, or leaves it at once when it is empty: *done says whether a value is complete. */
static bool check_open(struct checker *c, char closer, bool *done)
{
    c->too_deep = c->depth == c->max_depth;
    if (c->too_deep)
        return fail(c, "nested too deep");
    c->p++;
    skip_blanks(c);
    *done = next_is(c, closer);
    if (*done)
        return true;
    c->closers[c->depth++] = closer;
    return closer == '}' ? check_key(c) : true;
}

/* After a complete value: closes levels until one goes on; *done when none is left. */
static bool check_after(struct checker *c, bool *done)
{
    while (c->depth > 0) {
        char closer = c->closers[c->depth - 1];
        skip_blanks(c);
        if (next_is(c, ',')) {
            *done = false;
            return closer == '}' ? check_key(c) : true;
        }
        if (!next_is(c, closer))
            return fail(c, closer == '}' ? "',' or '}' was expected" : "',' or ']' was expected");
        c->depth--;
    }
    *done = true;
    return true;
}

static bool check_document(struct checker *c)
{
    bool complete = false, done = false;

    while (!done) {
        skip_blanks(c);
        if (c->p == c->end)
            return fail(c, "the text ends too early");
        if (*c->p == '{' || *c->p == '[') {
            if (!check_open(c, *c->p == '{' ? '}' : ']', &complete))
                return false;
        } else if (check_scalar(c)) {
            complete = true;
        } else {
            return false;
        }
        if (complete && !check_after(c, &done))
            return false;
    }
    skip_blanks(c);
    return c->p == c->end ? true : fail(c, "more text behind the document");
}

struct json *json_parse(struct kg_str text, size_t max_bytes, unsigned max_depth, size_t *at,
                        struct kg_err *err)
{
    struct checker c = {.p = text.p,
                        .end = text.p + text.n,
                        .max_depth = max_depth < DEEPEST ? max_depth : DEEPEST};
    cJSON *root = NULL;

    if (at)
        *at = 0;
    if (text.n > max_bytes) {
        kg_fail(err, KG_ELIMIT, "JSON of %zu bytes, where %zu are the most", text.n, max_bytes);
    } else if (!check_document(&c)) {
        if (at)
            *at = (size_t)(c.p - text.p);
        kg_fail(err, c.too_deep ? KG_ELIMIT : KG_EINVAL, "%s", c.fault);
    } else {
        root = cJSON_ParseWithLengthOpts(text.p, text.n, NULL, 0);
        if (!root)
            kg_fail(err, KG_ENOMEM, "out of memory");
    }
    return out(root);
}

void json_free(struct json *root)
{
    cJSON_Delete(own(root));
}

/* --- reading ------------------------------------------------------------------------------ */

enum json_type json_type(const struct json *n)
{
    if (cJSON_IsBool(in(n)))
        return JSON_BOOL;
    if (cJSON_IsNumber(in(n)))
        return JSON_NUMBER;
    if (cJSON_IsString(in(n)))
        return JSON_STRING;
    if (cJSON_IsArray(in(n)))
        return JSON_ARRAY;
    return cJSON_IsObject(in(n)) ? JSON_OBJECT : JSON_NULL;
}

const struct json *json_get(const struct json *object, const char *key)
{
    return cJSON_IsObject(in(object)) ? out(cJSON_GetObjectItemCaseSensitive(in(object), key))
                                      : NULL;
}

const struct json *json_path(const struct json *object, const char *dotted)
{
    char key[64];

    while (object && *dotted) {
        size_t n = strcspn(dotted, ".");
        if (!kg_str_copy(key, sizeof key, (struct kg_str){dotted, n}))
            return NULL;
        object = json_get(object, key);
        dotted += n + (dotted[n] == '.');
    }
    return object;
}

const struct json *json_first(const struct json *n)
{
    return n ? out(in(n)->child) : NULL;
}

const struct json *json_next(const struct json *child)
{
    return child ? out(in(child)->next) : NULL;
}

const char *json_key(const struct json *child)
{
    return child && in(child)->string ? in(child)->string : "";
}

size_t json_count(const struct json *n)
{
    return n ? (size_t)cJSON_GetArraySize(in(n)) : 0;
}

const char *json_string(const struct json *n, const char *otherwise)
{
    return cJSON_IsString(in(n)) ? in(n)->valuestring : otherwise;
}

double json_number(const struct json *n, double otherwise)
{
    return cJSON_IsNumber(in(n)) ? in(n)->valuedouble : otherwise;
}

bool json_bool(const struct json *n, bool otherwise)
{
    return cJSON_IsBool(in(n)) ? cJSON_IsTrue(in(n)) : otherwise;
}

/* --- building ----------------------------------------------------------------------------- */

#define SPOILED (1 << 20) /* beside cJSON's own type bits */

struct json *json_new_object(void)
{
    return out(cJSON_CreateObject());
}

struct json *json_new_array(void)
{
    return out(cJSON_CreateArray());
}

/* A value that could not be made or added leaves a mark on its parent that json_print refuses: a
 * text without it would be taken for the whole. */
static void spoil(struct json *parent)
{
    if (parent)
        own(parent)->type |= SPOILED;
}

void json_set(struct json *object, const char *key, struct json *value)
{
    if (object && value && cJSON_AddItemToObject(own(object), key, own(value)))
        return;
    json_free(value);
    spoil(object);
}

void json_set_string(struct json *object, const char *key, const char *value)
{
    json_set(object, key, out(cJSON_CreateString(value)));
}

void json_set_number(struct json *object, const char *key, double value)
{
    json_set(object, key, out(cJSON_CreateNumber(value)));
}

void json_set_bool(struct json *object, const char *key, bool value)
{
    json_set(object, key, out(cJSON_CreateBool(value)));
}

void json_push(struct json *array, struct json *value)
{
    if (array && value && cJSON_AddItemToArray(own(array), own(value)))
        return;
    json_free(value);
    spoil(array);
}

void json_push_string(struct json *array, const char *value)
{
    json_push(array, out(cJSON_CreateString(value)));
}

/* --- printing: depth is bounded by the parser's check or by our own building -------------- */

static void print_string(const char *text, struct kg_buf *to)
{
    kg_buf_puts(to, "\"");
    kg_json_escape(to, kg_str_of(text));
    kg_buf_puts(to, "\"");
}

/* Integers without an exponent; all else with the digits that read back as the same double. */
static void print_number(double v, struct kg_buf *to)
{
    char text[32];

    if (!isfinite(v)) {
        kg_buf_puts(to, "null");
        return;
    }
    if (fabs(v) < EXACT_INTEGER && v == floor(v)) {
        kg_buf_printf(to, "%.0f", v == 0 ? 0.0 : v);
        return;
    }
    snprintf(text, sizeof text, "%.15g", v);
    kg_buf_printf(to, "%s", strtod(text, NULL) == v ? text : "");
    if (strtod(text, NULL) != v)
        kg_buf_printf(to, "%.17g", v);
}

static void new_line(bool pretty, unsigned depth, struct kg_buf *to)
{
    if (pretty)
        kg_buf_printf(to, "\n%*s", (int)(2 * depth), "");
}

static void print_node(const cJSON *n, bool pretty, unsigned depth, struct kg_buf *to);

static void print_children(const cJSON *n, bool pretty, unsigned depth, struct kg_buf *to)
{
    bool object = cJSON_IsObject(n);

    kg_buf_puts(to, object ? "{" : "[");
    for (const cJSON *child = n->child; child; child = child->next) {
        new_line(pretty, depth + 1, to);
        if (object) {
            print_string(child->string ? child->string : "", to);
            kg_buf_puts(to, pretty ? ": " : ":");
        }
        print_node(child, pretty, depth + 1, to);
        if (child->next)
            kg_buf_puts(to, ",");
    }
    if (n->child)
        new_line(pretty, depth, to);
    kg_buf_puts(to, object ? "}" : "]");
}

static void print_node(const cJSON *n, bool pretty, unsigned depth, struct kg_buf *to)
{
    if (n->type & SPOILED)
        to->error = to->error ? to->error : KG_ENOMEM;
    else if (cJSON_IsArray(n) || cJSON_IsObject(n))
        print_children(n, pretty, depth, to);
    else if (cJSON_IsString(n))
        print_string(n->valuestring, to);
    else if (cJSON_IsNumber(n))
        print_number(n->valuedouble, to);
    else if (cJSON_IsBool(n))
        kg_buf_puts(to, cJSON_IsTrue(n) ? "true" : "false");
    else
        kg_buf_puts(to, "null");
}

int json_print(const struct json *n, bool pretty, struct kg_buf *to)
{
    if (!n)
        return to->error = to->error ? to->error : KG_ENOMEM;
    print_node(in(n), pretty, 0, to);
    return to->error;
}
