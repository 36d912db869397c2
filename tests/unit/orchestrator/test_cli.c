/* SPDX-License-Identifier: Apache-2.0 */
/* The command line without a server: what is printed, where it goes, and the exit status.
 * The difficulty: commands write to the process's own output, so it is caught in files. */
#include "config_case.h"
#include "orchestrator/cli.h"
#include "orchestrator/cli_priv.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/wait.h>

#define MAX_LINE 100
#define THIS_FILE "tests/unit/orchestrator/test_cli.c"

static char caught[2][1024 * 1024]; /* standard output and error of the last command */

static void read_back(int fd, char *into, size_t cap)
{
    ssize_t n = pread(fd, into, cap - 1, 0);

    ck_assert_int_ge(n, 0);
    into[n] = '\0';
    close(fd);
}

/* Redirects, runs, restores. */
static int run(char **words)
{
    char *argv[MAX_FLAGS] = {(char *)(uintptr_t) "kipgate"};
    int argc = 1, status, saved[2], fds[2];

    for (; *words; words++)
        argv[argc++] = *words;
    for (int i = 0; i < 2; i++) {
        fflush(i ? stderr : stdout);
        fds[i] = open("/tmp", O_TMPFILE | O_RDWR, 0600);
        saved[i] = dup(1 + i);
        ck_assert_int_ge(dup2(fds[i], 1 + i), 0);
    }
    status = cli_run(argc, argv);
    for (int i = 0; i < 2; i++) {
        fflush(i ? stderr : stdout);
        dup2(saved[i], 1 + i);
        close(saved[i]);
        read_back(fds[i], caught[i], sizeof caught[i]);
    }
    return status;
}

static void holds(const char *text, const char *words)
{
    ck_assert_msg(strstr(text, words) != NULL, "\"%s\" not in: %s", words, text);
}

/* --- help ---------------------------------------------------------------------------------- */

static void fits_a_terminal(const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        ck_assert_msg(n <= MAX_LINE, "%.*s", (int)n, text);
        text += n + (text[n] == '\n');
    }
}

START_TEST(test_help_names_every_command_and_key)
{
    char flag[64];

    ck_assert_int_eq(run(FLAGS("--help")), 0);
    fits_a_terminal(caught[0]);
    for (const struct cli_command *c = cli_commands; c->name; c++)
        holds(caught[0], c->words);
    holds(caught[0], "--config FILE");
    holds(caught[0], "--name NAME");
    CONFIG_EACH_KEY(k, config_top_keys)
    {
        config_flag_name(k->name, flag);
        holds(caught[0], flag);
    }
    CONFIG_EACH_KEY(k, config_service_keys)
    {
        config_flag_name(k->name, flag);
        holds(caught[0], flag);
    }
}
END_TEST

START_TEST(test_help_wherever_it_is_asked_for)
{
    ck_assert_int_eq(run(FLAGS("help")), 0);
    ck_assert_int_eq(run(FLAGS("-h")), 0);
    ck_assert_int_eq(run(FLAGS("serve", "--fronts", "two", "--help")), 0);
    ck_assert_int_eq(run(FLAGS("wake", "--help")), 0);
    holds(caught[0], "kipgate wake NAME");
    ck_assert_int_eq(run(FLAGS("--image", "x", "--command", "--help")), -1); /* a value */
}
END_TEST

/* --- which command ------------------------------------------------------------------------- */

START_TEST(test_serve_is_the_default)
{
    char *argv[] = {(char *)(uintptr_t) "kipgate", (char *)(uintptr_t) "serve",
                    (char *)(uintptr_t) "--image", NULL};

    ck_assert_int_eq(cli_run(1, argv), -1);
    ck_assert_int_eq(cli_options_at(1, argv), 1);
    ck_assert_int_eq(cli_run(2, argv), -1);
    ck_assert_int_eq(cli_options_at(2, argv), 2);
    argv[1] = argv[2];
    ck_assert_int_eq(cli_options_at(2, argv), 1);
    ck_assert_int_eq(run(FLAGS("--image", "x")), -1);
}
END_TEST

START_TEST(test_misuse_is_2_and_says_so)
{
    static const struct {
        const char *words[3], *told;
    } cases[] = {
        {{"dance"}, "there is no command \"dance\""},
        {{"wake"}, "needs the name of a service"},
        {{"sleep", "--json"}, "--json: unknown option"},
        {{"ps", "x"}, "x: unexpected argument"},
        {{"wake", "a", "b"}, "b: unexpected argument"},
        {{"wake", "a b"}, "a b: the name must be 1 to 63 of a-z"},
        {{"sleep", "../x"}, "../x: the name must be 1 to 63 of a-z"},
        {{"health", "--redy"}, "--redy: unknown option"},
        {{"ps", "--fronts=2"}, "--fronts=2: unknown option"},
        {{"ps", "--admin=nowhere"}, "--admin: \"nowhere\" is not host:port"},
        {{"ps", "--config"}, "--config: needs a value"},
        {{"ps", "--config=/nonexistent"}, "/nonexistent: cannot be read"},
        {{"version", "x"}, "takes no arguments"},
        {{"check", "--imgae", "x"}, "did you mean --image?"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *words[4] = {cases[i].words[0], cases[i].words[1], cases[i].words[2], NULL};
        ck_assert_int_eq(run((char **)(uintptr_t)words), 2);
        holds(caught[1], cases[i].told);
        ck_assert_str_eq(caught[0], "");
    }
}
END_TEST

START_TEST(test_what_cannot_be_reached_is_1)
{
    ck_assert_int_eq(run(FLAGS("ps", "--admin", "127.0.0.1:1")), 1);
    holds(caught[1], "kipgate ps: ");
    ck_assert_int_eq(run(FLAGS("health", "--admin=unix:/nonexistent/admin.sock")), 1);
    ck_assert_int_eq(run(FLAGS("wake", "a", "--admin=off")), 1);
    holds(caught[1], "the admin API is off");
    /* what is listened on at all interfaces is asked for on loopback */
    ck_assert_int_eq(run(FLAGS("ps", "--admin", "0.0.0.0:1")), 1);
    holds(caught[1], "http://127.0.0.1:1: ");
    ck_assert_int_eq(run(FLAGS("ps", "--admin", "[::]:1")), 1);
    holds(caught[1], "http://[::1]:1: ");
    setenv("KIPGATE_ADMIN", "127.0.0.1:1", 1);
    ck_assert_int_eq(run(FLAGS("events")), 1);
}
END_TEST

/* Somebody listens who answers one request so, whatever it asks; the request is left in `heard`. */
static int run_against(const char *command, const char *name, const char *answer, char *heard,
                       size_t cap)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0), told[2], status;
    char admin[64];
    const char *words[] = {command, admin, name, NULL};
    ssize_t n = 0;
    pid_t pid;

    ck_assert(bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 1) == 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &length), 0);
    ck_assert_int_eq(pipe(told), 0);
    snprintf(admin, sizeof admin, "--admin=127.0.0.1:%d", ntohs(a.sin_port));
    pid = fork();
    if (pid == 0) {
        char bytes[4096];
        int peer = accept(fd, NULL, NULL);
        for (size_t got = 0; !memmem(bytes, got, "\r\n\r\n", 4); got += (size_t)n) {
            n = read(peer, bytes + got, sizeof bytes - got);
            if (n <= 0 || write(told[1], bytes + got, (size_t)n) != n)
                _exit(1);
        }
        _exit(write(peer, answer, strlen(answer)) < 0);
    }
    close(fd);
    close(told[1]);
    status = run((char **)(uintptr_t)words);
    for (size_t got = 0; (n = read(told[0], heard + got, cap - 1 - got)) > 0; got += (size_t)n)
        heard[got + (size_t)n] = '\0';
    close(told[0]);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    return status;
}

#define ANSWER(body) "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" body

/* Another program at that address, which has a page for every path, has done nothing. */
START_TEST(test_who_else_answers_is_not_believed)
{
    static const char *const commands[][2] = {
        {"wake", "a"}, {"sleep", "a"}, {"health", "--ready"}, {"ps", NULL}, {"ps", "--json"}};
    static const char *const answers[] = {ANSWER("<html></html>"), ANSWER(""), ANSWER("1")};
    char heard[4096];

    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        for (size_t k = 0; k < sizeof answers / sizeof *answers; k++) {
            ck_assert_int_eq(
                run_against(commands[i][0], commands[i][1], answers[k], heard, sizeof heard), 1);
            holds(caught[1], "the answer is not understood");
            ck_assert_str_eq(caught[0], "");
        }
    ck_assert_int_eq(run_against("wake", "a", ANSWER("{}\n"), heard, sizeof heard), 0);
    ck_assert_int_eq(run_against("ps", "--json", ANSWER("[]\n"), heard, sizeof heard), 0);
    ck_assert_str_eq(caught[0], "[]\n");
}
END_TEST

#define REFUSAL                                                                                    \
    "HTTP/1.1 503 No\r\nConnection: close\r\n\r\n"                                                 \
    "{\"type\":\"urn:kipgate:draining\",\"detail\":\"Control is away\"}\n"

START_TEST(test_a_refusal_is_told_by_its_reason)
{
    static const char *const commands[][2] = {
        {"wake", "a"}, {"health", "--ready"}, {"ps", NULL}, {"events", NULL}};
    char heard[4096];

    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        ck_assert_int_eq(run_against(commands[i][0], commands[i][1], REFUSAL, heard, sizeof heard),
                         1);
        holds(caught[1], "draining: Control is away");
    }
}
END_TEST

/* The admin API answers no other, for a browser's sake: a name with a dot would be refused. */
START_TEST(test_asks_as_from_this_machine)
{
    char heard[4096];

    ck_assert_int_eq(run_against("health", NULL, ANSWER("{}"), heard, sizeof heard), 0);
    holds(heard, "GET /healthz HTTP/1.1\r\n");
    holds(heard, "Host: localhost\r\n");
    run_against("events", NULL, ANSWER(""), heard, sizeof heard);
    holds(heard, "Host: localhost\r\n");
}
END_TEST

START_TEST(test_version)
{
    ck_assert_int_eq(run(FLAGS("version")), 0);
    ck_assert_str_eq(caught[0], "kipgate " KIPGATE_VERSION "\n");
    ck_assert_int_eq(run(FLAGS("--version")), 0);
    ck_assert_str_eq(caught[0], "kipgate " KIPGATE_VERSION "\n");
}
END_TEST

/* --- check --------------------------------------------------------------------------------- */

/* D4 at the command line: the effective value, not the one somebody remembers. */
START_TEST(test_d4_check_shows_the_effective_configuration)
{
    ck_assert_int_eq(run(FLAGS("check", "--image", "a/b", "--cap-add", "NET_ADMIN")), 0);
    holds(caught[0], "\"idle_timeout\": \"5m\"");
    ck_assert_str_eq(caught[1], "service b: cap_add NET_ADMIN\n");
    ck_assert_int_eq(run(FLAGS("check", "--image", "a/b", "--idle-timeout", "20m")), 0);
    holds(caught[0], "\"idle_timeout\": \"20m\"");
}
END_TEST

START_TEST(test_check_of_a_wrong_configuration)
{
    ck_assert_int_eq(run(FLAGS("check", "--image", "a", "--port", "0", "--queue=-1")), 2);
    ck_assert_str_eq(caught[0], "");
    holds(caught[1], "--port: must be a whole number from 1 to 65535, not 0\n");
    holds(caught[1], "--queue: must be a whole number from 0 to 1000000, not \"-1\"\n");
}
END_TEST

/* --- what is kept in the repository -------------------------------------------------------- */

/* The file beside this test's source tree must be what the program prints now. */
static void is_current(const char *name, const char *option)
{
    static char kept[1024 * 1024];
    const char *here = __FILE__;
    char path[512];
    FILE *f;
    size_t n;

    snprintf(path, sizeof path, "%.*s%s", (int)(strlen(here) - strlen(THIS_FILE)), here, name);
    f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s cannot be read", path);
    n = fread(kept, 1, sizeof kept - 1, f);
    kept[n] = '\0';
    fclose(f);
    ck_assert_int_eq(run(FLAGS("check", option)), 0);
    ck_assert_msg(strcmp(kept, caught[0]) == 0,
                  "%s is not what `kipgate check %s` prints: renew it", name, option);
}

START_TEST(test_the_schema_is_current)
{
    is_current("packaging/kipgate.schema.json", "--schema");
}
END_TEST

START_TEST(test_the_manual_is_current)
{
    is_current("packaging/kipgate.8", "--manual");
}
END_TEST

/* troff would take such a line for a request of its own. */
START_TEST(test_no_line_of_the_manual_is_taken_for_a_request)
{
    static const char *const requests[] = {".\\\"", ".TH ", ".SH ", ".SS ", ".TP", ".B ", ".BR ",
                                           ".I ",   ".PP",  ".RS",  ".RE",  ".nf", ".fi", NULL};

    ck_assert_int_eq(run(FLAGS("check", "--manual")), 0);
    for (const char *line = caught[0]; *line;) {
        size_t n = strcspn(line, "\n"), i = 0;
        while (*line == '.' && requests[i] && strncmp(line, requests[i], strlen(requests[i])) != 0)
            i++;
        ck_assert_msg(*line != '\'' && (*line != '.' || requests[i]), "%.*s", (int)n, line);
        line += n + (line[n] == '\n');
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_help_names_every_command_and_key,
        test_help_wherever_it_is_asked_for,
        test_serve_is_the_default,
        test_misuse_is_2_and_says_so,
        test_what_cannot_be_reached_is_1,
        test_who_else_answers_is_not_believed,
        test_a_refusal_is_told_by_its_reason,
        test_asks_as_from_this_machine,
        test_version,
        test_d4_check_shows_the_effective_configuration,
        test_check_of_a_wrong_configuration,
        test_the_schema_is_current,
        test_the_manual_is_current,
        test_no_line_of_the_manual_is_taken_for_a_request,
    };

    return run_cases("cli", tests, sizeof tests / sizeof *tests);
}
