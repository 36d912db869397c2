/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers with units, patterns, escapes for logs. The difficulty: what is accepted must mean the
 * same when it is written and read again, and a stranger's bytes may not end a line or a string. */
#include "base/log.h"
#include "fuzz.h"
#include "orchestrator/json.h"
#include <stdio.h>

static void check_duration(struct kg_str s)
{
    int64_t ms = -1, again = -1;
    char text[24];

    if (kg_duration_parse(s, &ms) != 0)
        return;
    KG_ASSERT(ms >= 0 && s.n > 0 && s.p[0] >= '0' && s.p[0] <= '9');
    kg_duration_format(ms, text);
    KG_ASSERT(kg_duration_parse(kg_str_of(text), &again) == 0 && again == ms);
}

static void check_size(struct kg_str s)
{
    int64_t bytes = -1, again = -1;
    char text[24];

    if (kg_size_parse(s, &bytes) != 0)
        return;
    KG_ASSERT(bytes >= 0 && s.n > 0 && s.p[0] >= '0' && s.p[0] <= '9');
    kg_size_format(bytes, text);
    KG_ASSERT(kg_size_parse(kg_str_of(text), &again) == 0 && again == bytes);
}

static void check_number(struct kg_str s)
{
    int64_t v = -1;
    char text[24];

    if (!kg_str_to_i64(s, &v))
        return;
    KG_ASSERT(v >= 0);
    while (s.n > 1 && *s.p == '0')
        s = (struct kg_str){s.p + 1, s.n - 1};
    snprintf(text, sizeof text, "%lld", (long long)v);
    KG_ASSERT(kg_str_eq(s, kg_str_of(text)));
}

/* By definition, a row at a time: does pattern[0..p) match text[0..t)? */
#define MAX_NAIVE 64
static bool naive_glob(struct kg_str pattern, struct kg_str text)
{
    bool match[MAX_NAIVE + 1] = {true}, before;

    for (size_t p = 0; p < pattern.n; p++) {
        char c = pattern.p[p];
        before = match[0];
        match[0] = match[0] && c == '*';
        for (size_t t = 0; t < text.n; t++) {
            bool here = match[t + 1];
            match[t + 1] = c == '*' ? here || match[t] : before && (c == '?' || c == text.p[t]);
            before = here;
        }
    }
    return match[text.n];
}

static void check_glob(struct kg_str pattern, struct kg_str text)
{
    if (text.n <= MAX_NAIVE)
        KG_ASSERT(kg_glob(pattern, text) == naive_glob(pattern, text));
    else
        kg_glob(pattern, text);
}

/* The inside of a JSON string: one line, printable, and the same again for what is UTF-8. */
static void check_escape(struct kg_str s)
{
    struct kg_buf out;
    struct kg_err err = {0};
    struct json *read;

    kg_buf_init(&out, SIZE_MAX);
    kg_buf_puts(&out, "[\"");
    kg_json_escape(&out, s);
    kg_buf_puts(&out, "\"]");
    for (size_t i = 0; i < out.len; i++)
        KG_ASSERT((unsigned char)out.data[i] >= ' ' && out.data[i] != 0x7f);
    read = json_parse(kg_buf_str(&out), SIZE_MAX, 2, NULL, &err);
    if (!memchr(s.p, 0, s.n)) { /* our reader refuses an escaped NUL, as it should */
        KG_ASSERT(read && json_count(read) == 1 && json_type(json_first(read)) == JSON_STRING);
        if (s.n > 0)
            KG_ASSERT(json_string(json_first(read), "")[0]);
    }
    json_free(read);
    kg_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz f = {data, n};
    char *copy = fuzz_copy(data, n);
    struct kg_str whole = {copy, n}, pattern;

    check_duration(whole);
    check_size(whole);
    check_number(whole);
    if (n <= 4096)
        check_escape(whole);
    if (fuzz_line(&f, &pattern))
        check_glob(pattern, fuzz_rest(&f));
    free(copy);
    return 0;
}
