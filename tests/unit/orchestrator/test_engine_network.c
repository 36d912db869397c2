/* SPDX-License-Identifier: Apache-2.0 */
/* Kipgate's own network and a worker's port on it, against an engine that refuses what the test
 * wants. The difficulty: it is made in several calls, and each of them may go wrong. */
#include "engine_case.h"

#define SUBNET "10.9.8.0/29"
#define GATEWAY "10.9.8.1"

static struct engine_answer last;
static int answers;

/* The engine's network. */
static struct {
    const char *says;                /* what else it says of itself */
    bool there, chosen;              /* chosen: its range was named, and so it is labelled */
    bool refuses_range, keeps, gone; /* gone: removed by hand as soon as a container is created */
    unsigned odd_looks, odd_makes;   /* so often it answers nonsense, or that it cannot now */
    unsigned odd_defaults;           /* the same of the engine's default network */
    bool refuses_create;             /* where it is missing, as engines do that look at once */
    bool prunes_made, prunes_asked;  /* somebody removes it, once: as it is made; before we do */
    unsigned made, ranges, removed;
} net;
static char body[4096]; /* of the last create of a container */

/* Kipgate in a container of the engine's, as far as it can know. */
#define OWN_ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
static bool contained, forbidden; /* forbidden: a proxy before it lets no network be looked at */
static unsigned odd_owns;         /* so often nothing is said of that container */

FILE *fopen(const char *path, const char *mode)
{
    static char mounts[] = "1 1 0:1 /containers/" OWN_ID "/hostname /etc/hostname rw\n";

    if (contained && strcmp(path, "/proc/self/mountinfo") == 0)
        return fmemopen(mounts, sizeof mounts - 1, "r");
    return fopen64(path, mode);
}
static const char *start_says, *start_status, *image_says, *image_status;

static void say_status(struct fake_conn *c, const char *status, const char *json)
{
    char text[4096];

    snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n%s", status,
             strlen(json), json);
    fake_say(c, text);
}

static void say_network(struct fake_conn *c)
{
    char text[512];

    if (forbidden) {
        say_status(c, "403 Forbidden", "{\"message\":\"denied by the proxy\"}");
        return;
    }
    if (net.odd_looks > 0) {
        say_status(c, net.odd_looks-- % 2 ? "200 OK" : "500 No", "nonsense");
        return;
    }
    if (!net.there) {
        say_status(c, "404 Not Found", "{\"message\":\"network x not found\"}");
        return;
    }
    snprintf(text, sizeof text,
             "{\"Id\":\"1\",\"Labels\":{\"io.kipgate.owner\":\"me\"%s},\"IPAM\":{\"Config\":"
             "[{\"Subnet\":\"" SUBNET "\",\"Gateway\":\"" GATEWAY "\"}]}%s}",
             net.chosen ? ",\"io.kipgate.addresses\":\"chosen\"" : "", net.says);
    say_status(c, "200 OK", text);
}

static void make_network(struct fake_conn *c, const char *r)
{
    bool ranged = strstr(r, SUBNET) && strstr(r, GATEWAY);

    if (net.odd_makes > 0) {
        net.odd_makes--;
        say_status(c, "500 No", "{\"message\":\"iptables failed\"}");
        return;
    }
    net.ranges += ranged;
    net.made++;
    if (ranged && net.refuses_range) {
        say_status(c, "403 Forbidden", "{\"message\":\"Pool overlaps with other one\"}");
        return;
    }
    net.there = !net.prunes_made;
    net.prunes_made = false;
    net.chosen = ranged && strstr(r, "io.kipgate.addresses");
    say_status(c, "201 Created", "{\"Id\":\"1\"}");
}

static void remove_network(struct fake_conn *c)
{
    net.removed++;
    if (net.keeps) {
        say_status(c, "403 Forbidden", "{\"message\":\"has active endpoints\"}");
        return;
    }
    net.there = false;
    if (net.prunes_asked)
        say_status(c, "404 Not Found", "{\"message\":\"network x not found\"}");
    else
        fake_say(c, "HTTP/1.1 204 No Content\r\n\r\n");
}

static void say_own(struct fake_conn *c)
{
    if (odd_owns > 0)
        say_status(c, odd_owns-- % 2 ? "200 OK" : "500 No", "nonsense");
    else
        say_status(c, "200 OK",
                   "{\"State\":{\"Running\":true},\"HostConfig\":{\"NetworkMode\":\"host\"},"
                   "\"NetworkSettings\":{\"Networks\":{\"shared\":{}}}}");
}

static void on_request(struct fake_conn *c, const char *r)
{
    if (strncmp(r, "GET /_ping", 10) == 0)
        fake_say(c, "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK");
    else if (strstr(r, "POST /v1.41/networks/create"))
        make_network(c, r);
    else if (strstr(r, "DELETE /v1.41/networks/"))
        remove_network(c);
    else if (strstr(r, "GET /v1.41/networks/bridge"))
        say_status(c, "200 OK",
                   net.odd_defaults > 0 && net.odd_defaults-- ? "nonsense" : "{\"Id\":\"0\"}");
    else if (strstr(r, "GET /v1.41/networks/"))
        say_network(c);
    else if (strstr(r, "/containers/" OWN_ID))
        say_own(c);
    else if (strstr(r, "/events"))
        fake_say(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    else if (strstr(r, "/containers/json"))
        say_status(c, "200 OK", "[]");
    else if (strstr(r, "/containers/create") && net.refuses_create && !net.there) {
        say_status(c, "404 Not Found", "{\"message\":\"network x not found\"}");
    } else if (strstr(r, "GET /v1.41/images/")) {
        say_status(c, image_status, image_says);
    } else if (strstr(r, "/containers/create")) {
        snprintf(body, sizeof body, "%s", strstr(r, "\r\n\r\n"));
        say_status(c, "201 Created", "{\"Id\":\"0123\"}");
        net.there = net.there && !net.gone;
        net.gone = false;
    } else if (strstr(r, "/start")) {
        if (net.there)
            say_status(c, start_status, start_says);
        else
            say_status(c, "404 Not Found", "{\"message\":\"network x not found\"}");
    } else
        say_status(c, "200 OK", "{}");
}

static void on_answer(void *arg, const struct engine_answer *a)
{
    (void)arg;
    last = *a;
    answers++;
}

/* Connects to the engine as the test has set it up. */
static void come_up(void)
{
    static const struct engine_callbacks callbacks = {NULL, ignore_state, ignore_event, count_list,
                                                      ignore_progress};

    open_engine(&callbacks);
    until(&lists, 1);
}

static void set_up(void)
{
    open_peer(on_request, "address");
    answers = 0;
    contained = forbidden = false;
    odd_owns = 0;
    memset(&net, 0, sizeof net);
    net.says = "";
    start_says = "{\"message\":\"Address already in use\"}";
    image_status = "200 OK";
    start_status = "403 Forbidden";
}

/* Has a container made; gives its address's last number, 0: the engine chooses. */
static unsigned create_one(void)
{
    static char image[] = "x";
    const struct config_service s = {.name = "echo", .image = image, .port = 80};
    unsigned number = 0;
    const char *at;

    ck_assert(ops->create(ops->self, &s, "w", on_answer, NULL) != 0);
    until(&answers, answers + 1);
    ck_assert_int_eq(last.code, 0);
    at = strstr(body, "\"IPv4Address\":\"10.9.8.");
    if (at)
        ck_assert_int_eq(sscanf(at, "\"IPv4Address\":\"10.9.8.%u\"", &number), 1);
    return number;
}

/* The only way to be let choose: the engine's own choice, named. */
START_TEST(test_it_is_made_twice)
{
    unsigned first, second;

    come_up();
    ck_assert_uint_eq(net.made, 2);
    ck_assert_uint_eq(net.ranges, 1);
    ck_assert_uint_eq(net.removed, 1);
    first = create_one();
    second = create_one();
    ck_assert_uint_ge(first, 2);
    ck_assert_uint_le(first, 6);
    ck_assert_uint_eq(second, first == 6 ? 2 : first + 1);
}
END_TEST

START_TEST(test_one_of_the_last_run_is_taken_as_it_is)
{
    net.there = true;
    net.chosen = _i == 0; /* else of a build that did not choose: who is on it stays */
    come_up();
    ck_assert_uint_eq(net.made + net.removed, 0);
    ck_assert_uint_eq(create_one() != 0, _i == 0);
}
END_TEST

static const struct {
    const char *says;
    bool keeps;
    unsigned removed;
} halves[] = {
    {",\"Containers\":{}", false, 1},
    {",\"Containers\":{}", true, 1}, /* said as such, and yet in use: tried once */
    {",\"Containers\":{\"0123\":{}}", false, 0},
    {",\"Containers\":[]", false, 0},
};

/* One that was only half made when we were killed, or is of a build that did not choose. */
START_TEST(test_one_that_nobody_is_on_is_made_again)
{
    net.there = true;
    net.says = halves[_i].says;
    net.keeps = halves[_i].keeps;
    come_up();
    ck_assert_uint_eq(net.removed, halves[_i].removed);
    ck_assert_uint_eq(net.made, _i == 0);
    ck_assert_uint_eq(create_one() != 0, _i == 0);
}
END_TEST

/* An answer that says nothing of the network is no reason to do without walls for a whole run; but
 * it is not waited for for ever. */
START_TEST(test_an_odd_answer_is_asked_for_again)
{
    net.odd_looks = _i == 0 ? 3 : _i == 1 ? 1000 : 0;
    net.odd_makes = _i == 2 ? 3 : _i == 3 ? 1000 : 0;
    come_up();
    ck_assert_int_eq(net.chosen, _i % 2 == 0);
    ck_assert_int_eq(engine->common.odd == 0, _i % 2 == 0);
    create_one();
    ck_assert_int_eq(strstr(body, "\"NetworkMode\":\"kipgate-") != NULL, _i % 2 == 0);
}
END_TEST

/* How workers are reached is not decided by what was not understood. */
START_TEST(test_an_odd_answer_about_the_default_network_decides_nothing)
{
    unsetenv("KIPGATE_REACH"); /* it is none of this machine's: published */
    net.odd_looks = 1000;
    net.odd_defaults = 1;
    come_up();
    ck_assert_uint_eq(net.odd_defaults, 0);
    ck_assert_str_eq(engine->reach.network, "bridge");
    ck_assert_int_eq(engine->reach.kind, REACH_PUBLISHED);
}
END_TEST

/* Nor by what was not said of our own container: its workers would be where we are not. */
START_TEST(test_an_odd_answer_about_ourselves_decides_nothing)
{
    unsetenv("KIPGATE_REACH");
    contained = true;
    odd_owns = _i == 0 ? 3 : 1000;
    come_up();
    contained = false;
    ck_assert_int_eq(engine->reach.kind == REACH_NETWORK, _i == 0);
    ck_assert_int_eq(strcmp(engine->reach.network, "shared") == 0, _i == 0);
}
END_TEST

/* It is not said to be somebody else's. */
START_TEST(test_a_network_that_may_not_be_looked_at_is_done_without)
{
    char told[4096] = "";
    int ends[2], terminal = dup(STDERR_FILENO);

    ck_assert_int_eq(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    kg_log_setup(KG_LOG_WARN, KG_LOG_TEXT, "test");
    forbidden = true;
    come_up();
    dup2(terminal, STDERR_FILENO);
    close(terminal);
    close(ends[1]);
    ck_assert_int_gt(read(ends[0], told, sizeof told - 1), 0);
    close(ends[0]);
    ck_assert_ptr_nonnull(strstr(told, "engine-network-refused"));
    ck_assert_ptr_nonnull(strstr(told, "denied by the proxy"));
    ck_assert_ptr_null(strstr(told, "it is not ours"));
    ck_assert_str_eq(engine->reach.network, "bridge");
}
END_TEST

START_TEST(test_the_engine_chooses_where_a_range_is_refused)
{
    net.refuses_range = true;
    come_up();
    ck_assert_uint_eq(net.made, 3);
    ck_assert_uint_eq(net.ranges, 1);
    ck_assert(net.there);
    ck_assert_uint_eq(create_one(), 0);
}
END_TEST

START_TEST(test_the_engine_chooses_where_it_cannot_be_made_again)
{
    net.keeps = true;
    come_up();
    ck_assert_uint_eq(net.made, 1);
    ck_assert_uint_eq(net.removed, 1);
    ck_assert_uint_eq(create_one(), 0);
}
END_TEST

/* Somebody removes what is not used, and what nobody uses yet: it is made again. */
START_TEST(test_one_that_is_pruned_while_it_is_made)
{
    net.prunes_made = _i == 0;
    net.prunes_asked = _i == 1;
    come_up();
    ck_assert(net.there);
    create_one();
    ck_assert_ptr_nonnull(strstr(body, "\"NetworkMode\":\"kipgate-"));
}
END_TEST

/* What was made for the old one can be started on the new one. */
START_TEST(test_it_comes_back_with_its_range)
{
    come_up();
    net.gone = true;
    ck_assert_uint_ne(create_one(), 0);
    ck_assert(!net.there);
    ck_assert(ops->start(ops->self, "0123", on_answer, NULL) != 0);
    until(&answers, answers + 1);
    ck_assert(net.there && net.chosen);
    ck_assert_uint_eq(net.made, 3); /* this time at once */
    ck_assert_uint_eq(net.ranges, 2);
}
END_TEST

START_TEST(test_it_is_made_again_for_a_create)
{
    come_up();
    net.refuses_create = true;
    net.there = false;
    ck_assert_uint_ne(create_one(), 0);
    ck_assert(net.there);
    ck_assert_uint_eq(net.made, 3);
}
END_TEST

static const struct {
    const char *status, *says;
    int code;
    const char *words;
} images[] = {
    {"200 OK", "{\"Config\":{\"ExposedPorts\":{\"80/tcp\":{},\"53/udp\":{}}}}", 0, ""},
    {"200 OK", "{\"Config\":{\"ExposedPorts\":{\"80/tcp\":{},\"81\":{}}}}", KG_EINVAL,
     "image x exposes 2 TCP ports: set `port`"},
    {"200 OK", "{\"Config\":{\"ExposedPorts\":{\"0/tcp\":{},\"x/tcp\":{}}}}", KG_EINVAL,
     "image x exposes 0 TCP ports: set `port`"},
    {"200 OK", "[]", KG_EINVAL, "image x exposes 0 TCP ports: set `port`"},
    {"200 OK", "<html>", KG_EPROTO, "the engine's answer is not JSON"},
    {"404 Not Found", "{\"message\":\"No such image: x\"}", KG_ENOTFOUND, "No such image: x"},
    {"500 No", "{\"message\":\"woe\"}", KG_EIO, "woe"},
};

/* Without a port in the configuration the image says where its worker listens. */
START_TEST(test_the_port_is_the_images)
{
    static char image[] = "x";
    const struct config_service s = {.name = "echo", .image = image};

    image_status = images[_i].status;
    image_says = images[_i].says;
    come_up();
    body[0] = '\0';
    ck_assert(ops->create(ops->self, &s, "w", on_answer, NULL) != 0);
    until(&answers, 1);
    ck_assert_int_eq(last.code, images[_i].code);
    ck_assert_str_eq(last.words, images[_i].words);
    ck_assert_int_eq(body[0] != '\0', last.code == 0);
}
END_TEST

static const struct {
    const char *status, *says;
    int code;
} starts[] = {
    {"403 Forbidden", "{\"message\":\"Address already in use\"}", KG_EAGAIN},
    {"500 No",
     "{\"message\":\"IPAM error: requested ip address 10.9.8.2 is already allocated to container "
     "ID 1\"}",
     KG_EAGAIN},
    {"500 No",
     "{\"message\":\"Invalid address 10.9.8.2: It does not belong to any of this network's "
     "subnets\"}",
     KG_EAGAIN},
    {"400 Bad Request",
     "{\"message\":\"invalid address 10.9.8.2: It does not belong to any of this network's "
     "subnets\"}",
     KG_EAGAIN},
    {"400 Bad Request",
     "{\"message\":\"user specified IP address is supported only when connecting to networks with "
     "user configured subnets\"}",
     KG_EAGAIN},
    {"400 Bad Request",
     "{\"message\":\"invalid config for network x: invalid endpoint settings:\\nno configured "
     "subnet or ip-range contain the IP address 10.9.8.2\"}",
     KG_EAGAIN},
    {"403 Forbidden", "{\"message\":\"something else\"}", KG_EIO},
    {"400 Bad Request", "{\"message\":\"something else\"}", KG_EINVAL},
    {"400 Bad Request",
     "{\"message\":\"OCI runtime create failed: exec: \\\"network\\\": executable file not "
     "found\"}",
     KG_EINVAL},
};

START_TEST(test_an_address_that_cannot_be_had)
{
    start_says = starts[_i].says;
    start_status = starts[_i].status;
    come_up();
    ck_assert(ops->start(ops->self, "0123", on_answer, NULL) != 0);
    until(&answers, 1);
    ck_assert_int_eq(last.code, starts[_i].code);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("engine network");
    TCase *t = tcase_create("network");
    SRunner *runner;
    int failed;

    signal(SIGPIPE, SIG_IGN);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, test_it_is_made_twice);
    tcase_add_loop_test(t, test_one_of_the_last_run_is_taken_as_it_is, 0, 2);
    tcase_add_loop_test(t, test_one_that_nobody_is_on_is_made_again, 0,
                        sizeof halves / sizeof *halves);
    tcase_add_loop_test(t, test_an_odd_answer_is_asked_for_again, 0, 4);
    tcase_add_test(t, test_an_odd_answer_about_the_default_network_decides_nothing);
    tcase_add_loop_test(t, test_an_odd_answer_about_ourselves_decides_nothing, 0, 2);
    tcase_add_test(t, test_a_network_that_may_not_be_looked_at_is_done_without);
    tcase_add_test(t, test_the_engine_chooses_where_a_range_is_refused);
    tcase_add_test(t, test_the_engine_chooses_where_it_cannot_be_made_again);
    tcase_add_loop_test(t, test_one_that_is_pruned_while_it_is_made, 0, 2);
    tcase_add_test(t, test_it_comes_back_with_its_range);
    tcase_add_test(t, test_it_is_made_again_for_a_create);
    tcase_add_loop_test(t, test_the_port_is_the_images, 0, sizeof images / sizeof *images);
    tcase_add_loop_test(t, test_an_address_that_cannot_be_had, 0, sizeof starts / sizeof *starts);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
