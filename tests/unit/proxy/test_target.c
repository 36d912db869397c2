/* SPDX-License-Identifier: Apache-2.0 */
/* Targets and hosts: what is refused, what is kept byte by byte.
 * The difficulty: all spellings of a dot segment, and none of what only looks like one. */
#include "proxy/target.h"
#include <check.h>
#include <stdio.h>

START_TEST(paths)
{
    static const struct {
        const char *path;
        bool fine;
    } rows[] = {
        {"/", true},
        {"/a/b", true},
        {"/a//b", true},
        {"//a", true},
        {"//", true},
        {"/a;b=c/d;e", true},
        {"/a%20b", true},
        {"/bucket/a%2Fb%2fc", true},
        {"/%61%7E", true},
        {"/a.b/..c/c../.../.a", true},
        {"/a%2eb/%2e%2e%2e/x%2e%2e", true},
        {"/%25%32%65", true},
        {"/%252e%252e/", true},
        {"/~!$&'()*+,=:@|{}^`\"<>[]", true},
        {"/%0d%0a", true},
        {"/a;..", true},
        {"/a;/b", true},
        {"/a%5cb", true},
        {"", false},
        {"a", false},
        {"*", false},
        {"/.", false},
        {"/..", false},
        {"/./", false},
        {"/../", false},
        {"/a/..", false},
        {"/a/.", false},
        {"/a/../b", false},
        {"/a/./b", false},
        {"/a/%2e%2e/b", false},
        {"/a/%2E./b", false},
        {"/a/.%2e", false},
        {"/a/%2e", false},
        {"/a/..%2fb", false},
        {"/a%2f..", false},
        {"/a%2F%2e%2E%2Fb", false},
        {"/a%5c..%5cb", false},
        {"/a%5C..", false},
        {"/a/..;/b", false},
        {"/a/..;x=y", false},
        {"/a/.;", false},
        {"/a/..%3b/b", false},
        {"/a\\b", false},
        {"/a#b", false},
        {"/%00", false},
        {"/a%00.html", false},
        {"/%", false},
        {"/%a", false},
        {"/%zz", false},
        {"/a%2", false},
        {"/%2g", false},
        {"/%u002e", false},
        {"/\xc3\xa4", false},
        {"/a b", false},
        {"/\x7f", false},
        {"/\t", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *wrong = target_check_path(kg_str_of(rows[i].path));
        ck_assert_msg(!wrong == rows[i].fine, "%s: %s", rows[i].path, wrong ? wrong : "fine");
    }
    ck_assert_ptr_nonnull(target_check_path((struct kg_str){"/a\0b", 4}));
}
END_TEST

START_TEST(hosts)
{
    static const struct {
        const char *host, *name; /* NULL: refused */
    } rows[] = {
        {"a", "a"},
        {"Example.COM", "example.com"},
        {"example.com.", "example.com"},
        {"example.com:8080", "example.com"},
        {"example.com.:8080", "example.com"},
        {"example.com:", "example.com"},
        {"a_b-c.d", "a_b-c.d"},
        {"10.0.0.1:65535", "10.0.0.1"},
        {"[::1]", "[::1]"},
        {"[2001:DB8::1]:80", "[2001:db8::1]"},
        {"[::ffff:10.0.0.1]", "[::ffff:10.0.0.1]"},
        {"", NULL},
        {":80", NULL},
        {".", NULL},
        {".a", NULL},
        {"a..b", NULL},
        {"a:b", NULL},
        {"a:80:80", NULL},
        {"a:65536", NULL},
        {"a:000080", NULL},
        {"a:-1", NULL},
        {"a:+80", NULL},
        {"a:8 0", NULL},
        {"a b", NULL},
        {"a/b", NULL},
        {"a\\b", NULL},
        {"a?b", NULL},
        {"a#b", NULL},
        {"a@b", NULL},
        {"user:pw@b", NULL},
        {"a,b", NULL},
        {"a%2eb", NULL},
        {"a\tb", NULL},
        {"\xc3\xa4", NULL},
        {"a\x7f", NULL},
        {"*", NULL},
        {"[]", NULL},
        {"[:]", NULL},
        {"[::1", NULL},
        {"::1", NULL},
        {"[::1]a", NULL},
        {"[::1]:x", NULL},
        {"[::g]", NULL},
        {"[fe80::1%25eth0]", NULL},
        {"[[::1]]", NULL},
        {"<script>", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct target t;
        const char *wrong = target_check_host(kg_str_of(rows[i].host), &t);
        ck_assert_msg(!wrong == !!rows[i].name, "%s: %s", rows[i].host, wrong ? wrong : "fine");
        ck_assert((target_check_host(kg_str_of(rows[i].host), NULL) == NULL) == !wrong);
        if (rows[i].name)
            ck_assert_str_eq(t.host, rows[i].name);
    }
}
END_TEST

START_TEST(host_limit)
{
    char host[TARGET_MAX_HOST_BYTES + 8];
    struct target t;
    memset(host, 'a', sizeof host);
    for (size_t n = TARGET_MAX_HOST_BYTES - 1; n <= TARGET_MAX_HOST_BYTES + 1; n++) {
        const char *wrong = target_check_host((struct kg_str){host, n}, &t);
        ck_assert((wrong != NULL) == (n > TARGET_MAX_HOST_BYTES));
        if (!wrong)
            ck_assert_uint_eq(t.host_n, n);
    }
    memcpy(host + TARGET_MAX_HOST_BYTES, ":65535", 6);
    ck_assert_ptr_null(target_check_host((struct kg_str){host, TARGET_MAX_HOST_BYTES + 6}, &t));
}
END_TEST

START_TEST(forms)
{
    static const struct {
        const char *raw, *host; /* NULL: no Host */
        bool options;
        enum target_form form;
        const char *path, *query, *authority, *name; /* path NULL: refused */
    } rows[] = {
        {"/", "a", false, TARGET_ORIGIN, "/", "", "a", "a"},
        {"/x?y=z", "A:80", false, TARGET_ORIGIN, "/x", "?y=z", "A:80", "a"},
        {"/x?", "a", false, TARGET_ORIGIN, "/x", "?", "a", "a"},
        {"/x?/../%00?\\", "a", false, TARGET_ORIGIN, "/x", "?/../%00?\\", "a", "a"},
        {"/x", NULL, false, TARGET_ORIGIN, "/x", "", "", ""},
        {"/http://b/", "a", false, TARGET_ORIGIN, "/http://b/", "", "a", "a"},
        {"*", "a", true, TARGET_ASTERISK, "*", "", "a", "a"},
        {"*", "a", false, TARGET_ASTERISK, NULL, "", "", ""},
        {"**", "a", true, TARGET_ORIGIN, NULL, "", "", ""},
        {"*/x", "a", true, TARGET_ORIGIN, NULL, "", "", ""},
        {"http://b/x?y", "b", false, TARGET_ABSOLUTE, "/x", "?y", "b", "b"},
        {"HTTP://B/x", "b:80", false, TARGET_ABSOLUTE, "/x", "", "B", "b"},
        {"http://b:80/x", "B", false, TARGET_ABSOLUTE, "/x", "", "b:80", "b"},
        {"https://b:443/x", "b", false, TARGET_ABSOLUTE, "/x", "", "b:443", "b"},
        {"http://b:81/x", "b:81", false, TARGET_ABSOLUTE, "/x", "", "b:81", "b"},
        {"http://b", "b", false, TARGET_ABSOLUTE, "/", "", "b", "b"},
        {"http://b?q", "b", false, TARGET_ABSOLUTE, "/", "?q", "b", "b"},
        {"http://b", "b", true, TARGET_ABSOLUTE, "*", "", "b", "b"},
        {"http://b?q", "b", true, TARGET_ABSOLUTE, "/", "?q", "b", "b"},
        {"http://b/", "b", true, TARGET_ABSOLUTE, "/", "", "b", "b"},
        {"http://b/x", NULL, false, TARGET_ABSOLUTE, "/x", "", "b", "b"},
        {"http://b/x", "c", false, TARGET_ABSOLUTE, NULL, "", "", ""},
        {"http://b:81/x", "b", false, TARGET_ABSOLUTE, NULL, "", "", ""},
        {"http://b/x", "b:81", false, TARGET_ABSOLUTE, NULL, "", "", ""},
        {"https://b:80/x", "b", false, TARGET_ABSOLUTE, NULL, "", "", ""},
        {"http://b/x", "b@c", false, TARGET_ABSOLUTE, NULL, "", "", ""},
        {"http://u@b/x", "b", false, TARGET_ABSOLUTE, NULL, "", "", ""},
        {"http://u:p@b/x", "b", false, TARGET_ABSOLUTE, NULL, "", "", ""},
        {"http:///x", "b", false, TARGET_ABSOLUTE, NULL, "", "", ""},
        {"http://", "b", false, TARGET_ABSOLUTE, NULL, "", "", ""},
        {"http:/b/x", "b", false, TARGET_ABSOLUTE, NULL, "", "", ""},
        {"http://b/../x", "b", false, TARGET_ABSOLUTE, NULL, "", "", ""},
        {"http://b#x", "b", false, TARGET_ABSOLUTE, NULL, "", "", ""},
        {"http://b?x#y", "b", false, TARGET_ABSOLUTE, NULL, "", "", ""},
        {"http://b\\c/x", "b", false, TARGET_ABSOLUTE, NULL, "", "", ""},
        {"ftp://b/x", "b", false, TARGET_ABSOLUTE, NULL, "", "", ""},
        {"file:///etc/passwd", "b", false, TARGET_ABSOLUTE, NULL, "", "", ""},
        {"b:80", "b:80", false, TARGET_ORIGIN, NULL, "", "", ""},
        {"?x", "b", false, TARGET_ORIGIN, NULL, "", "", ""},
        {"/x#y", "b", false, TARGET_ORIGIN, NULL, "", "", ""},
        {"/x?y#z", "b", false, TARGET_ORIGIN, NULL, "", "", ""},
        {"/x", "", false, TARGET_ORIGIN, NULL, "", "", ""},
        {"/x", "a/b", false, TARGET_ORIGIN, NULL, "", "", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct target t;
        struct kg_str host = kg_str_of(rows[i].host ? rows[i].host : "");
        const char *wrong =
            target_parse(kg_str_of(rows[i].raw), rows[i].options, rows[i].host ? &host : NULL, &t);
        ck_assert_msg(!wrong == !!rows[i].path, "%s: %s", rows[i].raw, wrong ? wrong : "fine");
        if (wrong)
            continue;
        ck_assert_msg(kg_str_eq(t.path, kg_str_of(rows[i].path)), "%s: path", rows[i].raw);
        ck_assert_msg(kg_str_eq(t.query, kg_str_of(rows[i].query)), "%s: query", rows[i].raw);
        ck_assert_msg(kg_str_eq(t.authority, kg_str_of(rows[i].authority)), "%s: authority",
                      rows[i].raw);
        ck_assert_str_eq(t.host, rows[i].name);
        ck_assert_int_eq(t.form, rows[i].form);
    }
}
END_TEST

/* --- an independent opinion: decode once, cut parameters, look for a dot segment ----------- */

static int unhex(char c)
{
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c | 0x20) : NULL;
    return at ? (int)(at - digits) : -1;
}

static bool climbs(const char *path)
{
    char plain[64], *out = plain;
    for (const char *p = path; *p; p++) {
        if (*p == '%') {
            *out++ = (char)(unhex(p[1]) * 16 + unhex(p[2]));
            p += 2;
        } else {
            *out++ = *p;
        }
    }
    *out = '\0';
    for (char *p = plain; *p; p++)
        *p = *p == '\\' ? '/' : *p;
    char *rest = plain, *segment;
    while ((segment = strsep(&rest, "/")) != NULL) {
        segment[strcspn(segment, ";")] = '\0';
        if (strcmp(segment, ".") == 0 || strcmp(segment, "..") == 0)
            return true;
    }
    return false;
}

START_TEST(fuzz_paths)
{
    static const char *const parts[] = {".", "..",  "%2e", "%2E", "/",   "%2f", "%5C",
                                        ";", "%3B", "a",   "//",  "%41", "...", "x="};
    uint64_t random = 7;
    unsigned refused = 0, kept = 0;
    for (int round = 0; round < 200000; round++) {
        char path[64] = "/";
        for (int n = 0; n < 7; n++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            strcat(path, parts[(random >> 33) % (sizeof parts / sizeof *parts)]);
        }
        const char *wrong = target_check_path(kg_str_of(path));
        ck_assert_msg(climbs(path) == (wrong != NULL), "%s: %s", path, wrong ? wrong : "fine");
        *(wrong ? &refused : &kept) += 1;
    }
    ck_assert(refused > 1000 && kept > 1000);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("target");
    TCase *t = tcase_create("target");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, paths);
    tcase_add_test(t, hosts);
    tcase_add_test(t, host_limit);
    tcase_add_test(t, forms);
    tcase_add_test(t, fuzz_paths);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
