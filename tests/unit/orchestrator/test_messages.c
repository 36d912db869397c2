/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between control and fronts: what is believed and what is not.
 * The difficulty: every field that a reader trusts must have a case that shows it is checked. */
#include "orchestrator/messages.h"
#include <check.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/un.h>

static _Alignas(8) char bytes[KG_MAX_MESSAGE_BYTES + 8];

static struct message_grant *good_grant(void)
{
    struct message_grant *m = (void *)bytes;
    struct sockaddr_storage at = {.ss_family = AF_INET};

    message_init(m, MESSAGE_GRANT, sizeof *m);
    m->ticket = 5u << MESSAGE_SERVICE_BITS | 7;
    m->service = 7;
    m->slots = 1;
    ck_assert(message_set_address(&m->where, &at, sizeof(struct sockaddr_in)));
    return m;
}

START_TEST(test_a_good_message_is_taken)
{
    struct message_grant *m = good_grant();

    ck_assert_ptr_eq(message_check(m, sizeof *m, true), &m->head);
}
END_TEST

START_TEST(test_direction_version_type_and_size_are_checked)
{
    struct message_grant *m = good_grant();

    ck_assert_ptr_null(message_check(m, sizeof *m, false));
    ck_assert_ptr_null(message_check(m, sizeof *m - 1, true));
    ck_assert_ptr_null(message_check(m, 4, true));
    ck_assert_ptr_null(message_check(m, 0, true));
    m->head.version++;
    ck_assert_ptr_null(message_check(m, sizeof *m, true));
    m = good_grant();
    m->head.type = MESSAGE_COUNT;
    ck_assert_ptr_null(message_check(m, sizeof *m, true));
    m->head.type = MESSAGE_NONE_;
    ck_assert_ptr_null(message_check(m, sizeof *m, true));
    m = good_grant();
    m->head.size++;
    ck_assert_ptr_null(message_check(m, sizeof *m + 1, true));
}
END_TEST

START_TEST(test_a_grant_names_the_service_of_its_ticket)
{
    struct message_grant *m = good_grant();

    m->service = 8;
    ck_assert_ptr_null(message_check(m, sizeof *m, true));
    m = good_grant();
    m->where.storage.ss_family = AF_APPLETALK;
    ck_assert_ptr_null(message_check(m, sizeof *m, true));
    m = good_grant();
    m->where.length = 1;
    ck_assert_ptr_null(message_check(m, sizeof *m, true));
    m = good_grant();
    m->slots = 0;
    ck_assert_ptr_null(message_check(m, sizeof *m, true));
}
END_TEST

START_TEST(test_an_address_is_as_long_as_its_family_says)
{
    struct message_grant *m = good_grant();
    struct sockaddr_storage at = {.ss_family = AF_INET6};

    ck_assert(message_set_address(&m->where, &at, sizeof(struct sockaddr_in6)));
    ck_assert_ptr_nonnull(message_check(m, sizeof *m, true));
    m->where.length = sizeof(struct sockaddr_in);
    ck_assert_ptr_null(message_check(m, sizeof *m, true));
    ck_assert(!message_set_address(&m->where, &at, sizeof at + 1));
}
END_TEST

START_TEST(test_a_unix_path_must_end)
{
    struct message_grant *m = good_grant();
    struct sockaddr_storage at = {0};
    struct sockaddr_un *un = (void *)&at;

    un->sun_family = AF_UNIX;
    memset(un->sun_path, 'a', sizeof un->sun_path);
    ck_assert(!message_set_address(&m->where, &at, sizeof *un));
    un->sun_path[sizeof un->sun_path - 1] = '\0';
    ck_assert(message_set_address(&m->where, &at, sizeof *un));
}
END_TEST

START_TEST(test_a_confined_front_sees_its_root_only)
{
    struct message_address where;
    struct sockaddr_storage at = {.ss_family = AF_UNIX};
    struct sockaddr_un *un = (void *)&at, *seen = (void *)&where.storage;
    struct sockaddr_storage inet = {.ss_family = AF_INET};

    strcpy(un->sun_path, "/state/sockets/0a/w.sock");
    ck_assert(message_set_address(&where, &at, sizeof *un));
    ck_assert(!message_address_within(&where, "/state/socket"));
    ck_assert(!message_address_within(&where, "/other"));
    ck_assert(message_address_within(&where, "/state/sockets"));
    ck_assert_str_eq(seen->sun_path, "/0a/w.sock");
    ck_assert(message_set_address(&where, &inet, sizeof(struct sockaddr_in)));
    ck_assert(message_address_within(&where, "/state/sockets"));
}
END_TEST

START_TEST(test_strings_must_end)
{
    struct message_admin_request *a = (void *)bytes;
    struct message_refuse *r;

    message_init(a, MESSAGE_ADMIN_REQUEST, sizeof *a);
    ck_assert_ptr_nonnull(message_check(a, sizeof *a, false));
    memset(a->path, 'x', sizeof a->path);
    ck_assert_ptr_null(message_check(a, sizeof *a, false));
    r = (void *)bytes;
    message_init(r, MESSAGE_REFUSE, sizeof *r);
    memset(r->detail, 'x', sizeof r->detail);
    ck_assert_ptr_null(message_check(r, sizeof *r, true));
}
END_TEST

START_TEST(test_body_pieces_say_their_length)
{
    struct message_admin_body *b = (void *)bytes;

    message_init(b, MESSAGE_ADMIN_BODY, sizeof *b + 10);
    b->n = 10;
    ck_assert_ptr_nonnull(message_check(b, sizeof *b + 10, false));
    b->n = 11;
    ck_assert_ptr_null(message_check(b, sizeof *b + 10, false));
}
END_TEST

START_TEST(test_an_admin_body_has_a_cap)
{
    struct message_admin_request *a = (void *)bytes;

    message_init(a, MESSAGE_ADMIN_REQUEST, sizeof *a);
    a->body_bytes = KG_LOCAL_BODY_BYTES;
    ck_assert_ptr_nonnull(message_check(a, sizeof *a, false));
    a->body_bytes++;
    ck_assert_ptr_null(message_check(a, sizeof *a, false));
}
END_TEST

START_TEST(test_pieces_of_certificates_are_checked)
{
    struct message_tls_piece *m = (void *)bytes;
    struct message_tls_commit *c = (void *)bytes;
    struct message_tls_tickets *t = (void *)bytes;

    message_init(m, MESSAGE_TLS_PIECE, sizeof *m + 3);
    m->n = m->total = 3;
    m->certificate = KG_MAX_CERTIFICATES - 1;
    m->part = TLS_CLIENT_CA;
    ck_assert_ptr_nonnull(message_check(m, sizeof *m + 3, true));
    ck_assert_ptr_null(message_check(m, sizeof *m + 3, false));
    m->n = 4;
    ck_assert_ptr_null(message_check(m, sizeof *m + 3, true));
    m->n = 3;
    m->certificate++;
    ck_assert_ptr_null(message_check(m, sizeof *m + 3, true));
    m->certificate--;
    m->part++;
    ck_assert_ptr_null(message_check(m, sizeof *m + 3, true));
    m->part--;
    m->total = KG_MAX_TLS_FILE_BYTES + 1;
    ck_assert_ptr_null(message_check(m, sizeof *m + 3, true));
    MESSAGE_INIT(c, TLS_COMMIT);
    ck_assert_ptr_null(message_check(c, sizeof *c, true));
    c->certificates = KG_MAX_CERTIFICATES;
    ck_assert_ptr_nonnull(message_check(c, sizeof *c, true));
    c->certificates++;
    ck_assert_ptr_null(message_check(c, sizeof *c, true));
    MESSAGE_INIT(t, TLS_TICKETS);
    t->count = TLS_TICKET_KEYS;
    ck_assert_ptr_nonnull(message_check(t, sizeof *t, true));
    t->count++;
    ck_assert_ptr_null(message_check(t, sizeof *t, true));
}
END_TEST

/* Whatever the bytes, the check itself must be sound (the sanitizers watch). */
START_TEST(test_garbage_is_survived)
{
    unsigned seed = 1;

    for (int round = 0; round < 200000; round++) {
        struct message_head *head = (void *)bytes;
        size_t n = (size_t)rand_r(&seed) % KG_MAX_MESSAGE_BYTES;
        for (size_t i = 0; i < n; i += 1 + (size_t)rand_r(&seed) % 64)
            bytes[i] = (char)rand_r(&seed);
        *head = (struct message_head){MESSAGE_VERSION, (uint16_t)(rand_r(&seed) % MESSAGE_COUNT),
                                      (uint32_t)n};
        message_check(bytes, n, round & 1);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("messages");
    TCase *t = tcase_create("check");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_test(t, test_a_good_message_is_taken);
    tcase_add_test(t, test_direction_version_type_and_size_are_checked);
    tcase_add_test(t, test_a_grant_names_the_service_of_its_ticket);
    tcase_add_test(t, test_an_address_is_as_long_as_its_family_says);
    tcase_add_test(t, test_a_unix_path_must_end);
    tcase_add_test(t, test_a_confined_front_sees_its_root_only);
    tcase_add_test(t, test_strings_must_end);
    tcase_add_test(t, test_body_pieces_say_their_length);
    tcase_add_test(t, test_an_admin_body_has_a_cap);
    tcase_add_test(t, test_pieces_of_certificates_are_checked);
    tcase_add_test(t, test_garbage_is_survived);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
