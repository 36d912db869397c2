/* SPDX-License-Identifier: Apache-2.0 */
/* Where things are for the engine client: the engine itself, directories of sockets, credentials.
 * The difficulty: an engine by TCP is another machine's, so there is a listener here that only
 * shows that it was asked. */
#include "base/clock.h"
#include "orchestrator/engine_priv.h"
#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static uv_loop_t loop;
static char why[300];
static bool told, closed;

static void on_state(void *arg, bool up, const char *reason)
{
    (void)arg;
    ck_assert(!up);
    snprintf(why, sizeof why, "%s", reason);
    told = true;
}

static void on_closed(void *arg)
{
    (void)arg;
    closed = true;
}

static struct engine *engine_at(const char *address, const char *certificates, struct kg_err *err)
{
    static const struct engine_callbacks callbacks = {.on_state = on_state};
    static char text[600], certs[64], state_dir[] = "/nonexistent";
    struct config config = {.engine = text, .state_dir = state_dir};

    snprintf(text, sizeof text, "%s", address);
    snprintf(certs, sizeof certs, "%s", certificates ? certificates : "");
    config.engine_cert_path = certificates ? certs : NULL;
    config.engine_tls = certificates != NULL;
    return engine_open(&loop, &config, "me", "key", &callbacks, err);
}

static void close_engine(struct engine *e)
{
    closed = false;
    engine_close(e, on_closed, NULL);
    for (int64_t end = kg_clock_mono_ms() + 10000; !closed && kg_clock_mono_ms() < end;)
        uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert(closed);
}

/* --- the engine ----------------------------------------------------------------------------- */

START_TEST(addresses_that_are_none)
{
    static const char *const bad[][2] = {
        {"http://127.0.0.1:2375", "neither unix:// nor tcp://"},
        {"tcp://", "not a host and port"},
        {"tcp://:2375", "not a host and port"},
    };
    struct kg_err err;
    char path[400];

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err = (struct kg_err){0};
        ck_assert_ptr_null(engine_at(bad[i][0], NULL, &err));
        ck_assert_msg(strstr(err.words, bad[i][1]) != NULL, "%s", err.words);
    }
    memset(path, 'x', sizeof path);
    memcpy(path, "unix:///", 8);
    path[8 + KG_MAX_SOCKET_PATH_BYTES] = '\0';
    err = (struct kg_err){0};
    ck_assert_ptr_null(engine_at(path, NULL, &err));
    ck_assert_ptr_nonnull(strstr(err.words, "the path is longer than"));
    memset(path, 'x', sizeof path);
    memcpy(path, "tcp://", 6);
    path[sizeof path - 1] = '\0';
    err = (struct kg_err){0};
    ck_assert_ptr_null(engine_at(path, NULL, &err));
    ck_assert_ptr_nonnull(strstr(err.words, "not a host and port"));
}
END_TEST

static int listening(int family, uint16_t *port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    socklen_t n = family == AF_INET ? sizeof v4 : sizeof v6;
    void *a = family == AF_INET ? (void *)&v4 : (void *)&v6;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    v6.sin6_addr = in6addr_loopback;
    if (fd < 0 || bind(fd, a, n) != 0 || listen(fd, 4) != 0 || getsockname(fd, a, &n) != 0)
        return -1;
    *port = ntohs(family == AF_INET ? v4.sin_port : v6.sin6_port);
    return fd;
}

/* The first bytes that are said to this listener. */
static void first_words(int listener, char *out, size_t cap)
{
    int64_t end = kg_clock_mono_ms() + 10000;
    ssize_t n = -1;
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0 &&
           kg_clock_mono_ms() < end)
        uv_run(&loop, UV_RUN_NOWAIT);
    while ((n = recv(fd, out, cap - 1, 0)) < 0 && kg_clock_mono_ms() < end)
        uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert_int_gt(n, 0);
    out[n] = '\0';
    close(fd);
}

START_TEST(an_engine_by_tcp)
{
    static const struct {
        int family;
        const char *before, *host;
    } at[] = {{AF_INET, "tcp://127.0.0.1", "127.0.0.1"}, {AF_INET6, "tcp://[::1]", "::1"}};

    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        struct kg_err err = {0};
        struct engine *e;
        char address[64], said[600], host[80];
        uint16_t port;
        int fd = listening(at[i].family, &port);
        if (fd < 0 && at[i].family == AF_INET6)
            continue; /* a machine without IPv6 */
        snprintf(address, sizeof address, "%s:%u", at[i].before, port);
        e = engine_at(address, NULL, &err);
        ck_assert_msg(e != NULL, "%s", err.words);
        ck_assert_str_eq(e->host, at[i].host);
        first_words(fd, said, sizeof said);
        ck_assert_msg(strncmp(said, "GET /_ping ", 11) == 0, "%s", said);
        snprintf(host, sizeof host, "Host: %s\r\n", address + strlen("tcp://"));
        ck_assert_ptr_nonnull(strstr(said, host));
        close_engine(e);
        close(fd);
    }
}
END_TEST

/* Without its certificates nothing is said to it, least of all in the clear. */
START_TEST(an_engine_by_tls_needs_its_certificates)
{
    struct kg_err err = {0};
    struct engine *e;
    char address[64], byte;
    uint16_t port;
    int fd = listening(AF_INET, &port), conn;

    snprintf(address, sizeof address, "tcp://127.0.0.1:%u", port);
    told = false;
    e = engine_at(address, "/nonexistent", &err);
    ck_assert_msg(e != NULL, "%s", err.words);
    for (int64_t end = kg_clock_mono_ms() + 10000; !told && kg_clock_mono_ms() < end;)
        uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert(told);
    ck_assert_msg(strstr(why, "ca.pem") || strstr(why, "ertificate"), "%s", why);
    while ((conn = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        ck_assert_int_le(recv(conn, &byte, 1, 0), 0);
        close(conn);
    }
    close_engine(e);
    close(fd);
}
END_TEST

/* --- directories of sockets ----------------------------------------------------------------- */

static char state[] = "/tmp/kipgate-places-XXXXXX";

static struct engine *in_state(void)
{
    static struct engine e;

    e = (struct engine){.loop = &loop};
    kg_list_init(&e.watches);
    snprintf(e.sockets, sizeof e.sockets, "%s/sockets", state);
    snprintf(e.reach.sockets, sizeof e.reach.sockets, "%s", e.sockets);
    return &e;
}

static void make_old(const char *path)
{
    struct timespec long_ago[2] = {{.tv_sec = 1}, {.tv_sec = 1}};

    ck_assert_int_eq(utimensat(AT_FDCWD, path, long_ago, AT_SYMLINK_NOFOLLOW), 0);
}

static void path_in(char *out, size_t cap, const char *dir, const char *name)
{
    ck_assert_int_lt(snprintf(out, cap, "%s/%s", dir, name), (int)cap);
}

static void touch(const char *dir, const char *name)
{
    char path[300];

    path_in(path, sizeof path, dir, name);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
}

/* The directory of a container's socket, made as for a create. */
static void make(struct engine *e, const char *container, char *dir, size_t cap)
{
    struct kg_err err = {0};

    ck_assert_int_eq(engine_socket_make(e, container, "/run/w/s", dir, cap, &err), 0);
    touch(dir, "s");
}

static void turn_over(void)
{
    for (int i = 0; i < 3; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
}

/* Only what is old, and of no container that is listed, and of our form; never through a link. */
START_TEST(old_directories_of_sockets_are_swept)
{
    struct engine *e = in_state();
    struct engine_container listed = {.name = "kipgate-a-1"};
    char kept[300], young[300], old[300], full[300], inside[320], link[320], path[400];

    make(e, "kipgate-a-1", kept, sizeof kept);
    make(e, "kipgate-a-2", young, sizeof young);
    make(e, "kipgate-a-3", old, sizeof old);
    make(e, "kipgate-a-4", full, sizeof full);
    path_in(inside, sizeof inside, full, "dir");
    mkdir(inside, 0700);
    path_in(link, sizeof link, e->sockets, "0123456789abcdef");
    ck_assert_int_eq(symlink(young, link), 0);
    touch(e->sockets, "file");
    make_old(kept);
    make_old(old);
    make_old(full);
    make_old(link);
    engine_sockets_sweep(e, &listed, 1);
    ck_assert_int_eq(access(kept, F_OK), 0);
    ck_assert_int_eq(access(young, F_OK), 0);
    path_in(path, sizeof path, young, "s");
    ck_assert_int_eq(access(path, F_OK), 0);
    ck_assert_int_eq(access(old, F_OK), -1);
    ck_assert_int_eq(access(full, F_OK), 0); /* a worker left a directory in it */
    path_in(path, sizeof path, e->sockets, "file");
    ck_assert_int_eq(access(path, F_OK), 0);
    engine_sockets_close(e);
    turn_over();
}
END_TEST

/* A pull may be between two creates: a list that began before the second does not know of it. */
START_TEST(a_directory_that_is_made_again_is_young)
{
    struct engine *e = in_state();
    char dir[300];

    make(e, "kipgate-a-1", dir, sizeof dir);
    make_old(dir);
    make(e, "kipgate-a-1", dir, sizeof dir);
    engine_sockets_sweep(e, NULL, 0);
    ck_assert_int_eq(access(dir, F_OK), 0);
    engine_sockets_close(e);
    turn_over();
}
END_TEST

/* A socket at `path`: nobody listens on it, or we do. */
static int bind_at(const char *path, bool listens)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_lt(snprintf(at.sun_path, sizeof at.sun_path, "%s", path),
                     (int)sizeof at.sun_path);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    ck_assert(!listens || listen(fd, 1) == 0);
    return fd;
}

/* What a former life of the container left; nothing that is in use, of others, or is no socket. */
START_TEST(a_socket_that_was_left_is_taken_away_before_the_next_start)
{
    struct engine *e = in_state();
    struct stat st;
    char dir[300], path[320], real[320];
    int fd;

    make(e, "kipgate-a-1", dir, sizeof dir);
    path_in(path, sizeof path, dir, "s");
    engine_socket_watch(e, "kipgate-a-1", "id-1", "/run/w/s");
    engine_socket_clear(e, "id-1"); /* a file */
    ck_assert_int_eq(unlink(path), 0);
    engine_socket_clear(e, "id-1"); /* nothing */
    fd = bind_at(path, true);
    engine_socket_clear(e, "id-1");
    ck_assert_int_eq(lstat(path, &st), 0);
    close(fd);
    engine_socket_clear(e, "id-2");
    ck_assert_int_eq(lstat(path, &st), 0);
    engine_socket_clear(e, "id-1");
    ck_assert_int_eq(lstat(path, &st), -1);
    path_in(real, sizeof real, state, "real");
    close(bind_at(real, false));
    ck_assert_int_eq(symlink(real, path), 0);
    engine_socket_clear(e, "id-1");
    ck_assert_int_eq(lstat(path, &st), 0);
    ck_assert_int_eq(lstat(real, &st), 0);
    ck_assert_int_eq(unlink(path), 0);
    engine_sockets_close(e);
    turn_over();
}
END_TEST

/* By hand: it is still ours, and its socket where it was. */
START_TEST(a_renamed_container_keeps_its_directory)
{
    struct engine *e = in_state();
    struct engine_container listed = {.name = "somebody-called-it-so", .id = "id-1"};
    char dir[300], path[320], found[320];

    make(e, "kipgate-a-1", dir, sizeof dir);
    path_in(path, sizeof path, dir, "s");
    engine_socket_watch(e, "kipgate-a-1", "id-1", "/run/w/s");
    make_old(dir);
    engine_sockets_sweep(e, &listed, 1);
    ck_assert_int_eq(access(path, F_OK), 0);
    ck_assert(engine_socket_place(e, &listed, "/run/w/s", found, sizeof found));
    ck_assert_str_eq(found, path);
    engine_sockets_sweep(e, NULL, 0);
    ck_assert_int_eq(access(path, F_OK), -1);
    engine_sockets_close(e);
    turn_over();
}
END_TEST

START_TEST(a_socket_that_has_no_place)
{
    struct engine *e = in_state();
    struct kg_err err = {0};
    char there[300], small[20];

    ck_assert_int_eq(engine_socket_make(e, "c", "/run/", there, sizeof there, &err), KG_EINVAL);
    err = (struct kg_err){0};
    ck_assert_int_eq(engine_socket_make(e, "c", "/run/w/s", small, sizeof small, &err), KG_EINVAL);
    ck_assert_str_eq(err.words, "state_dir is too long");
    memset(e->sockets, 'x', sizeof e->sockets - 1);
    e->sockets[0] = '/';
    e->sockets[sizeof e->sockets - 1] = '\0';
    ck_assert_int_eq(engine_socket_make(e, "c", "/run/w/s", there, sizeof there, &err), KG_EINVAL);
    snprintf(e->sockets, sizeof e->sockets, "%s/file", state);
    touch(state, "file");
    err = (struct kg_err){0};
    ck_assert_int_eq(engine_socket_make(e, "c", "/run/w/s", there, sizeof there, &err), KG_EIO);
    engine_sockets_close(e);
    turn_over();
}
END_TEST

/* --- credentials ---------------------------------------------------------------------------- */

static const char *header_with(const char *config, const char *host)
{
    static char out[600];
    char path[300];
    struct kg_buf b;
    FILE *f;

    setenv("DOCKER_CONFIG", state, 1);
    snprintf(path, sizeof path, "%s/config.json", state);
    f = fopen(path, "w");
    fputs(config, f);
    fclose(f);
    kg_buf_init(&b, sizeof out - 1);
    engine_auth_header(host, &b);
    snprintf(out, sizeof out, "%s", b.data ? b.data : "");
    kg_buf_fini(&b);
    unsetenv("DOCKER_CONFIG");
    return out;
}

START_TEST(credentials_in_a_file)
{
    const char *known = "{\"auths\":{\"reg:5000\":{\"auth\":\"dTpw\"}},\"credsStore\":\"x\"}";

    ck_assert(strncmp(header_with(known, "reg:5000"), "X-Registry-Auth: ", 17) == 0);
    ck_assert_str_eq(header_with(known, "other"), ""); /* helpers are not run */
    ck_assert_str_eq(header_with("{\"credHelpers\":{\"reg\":\"x\"}}", "reg"), "");
    ck_assert_str_eq(header_with("{}", "reg"), "");
    ck_assert_str_eq(header_with("{\"auths\"", "reg"), ""); /* cannot be read */
}
END_TEST

static void set_up(void)
{
    uv_loop_init(&loop);
    kg_log_setup(KG_LOG_ERROR + 1, KG_LOG_TEXT, "test");
    snprintf(state, sizeof state, "/tmp/kipgate-places-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(state));
}

static void tear_down(void)
{
    char command[80];

    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    snprintf(command, sizeof command, "rm -rf %s", state);
    ck_assert_int_eq(system(command), 0);
}

int main(void)
{
    const TTest *const tests[] = {addresses_that_are_none,
                                  an_engine_by_tcp,
                                  an_engine_by_tls_needs_its_certificates,
                                  a_socket_that_has_no_place,
                                  a_renamed_container_keeps_its_directory,
                                  a_socket_that_was_left_is_taken_away_before_the_next_start,
                                  credentials_in_a_file,
                                  old_directories_of_sockets_are_swept,
                                  a_directory_that_is_made_again_is_young};
    Suite *s = suite_create("engine places");
    TCase *t = tcase_create("places");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(t, tests[i]);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
