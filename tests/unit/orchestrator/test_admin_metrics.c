/* SPDX-License-Identifier: Apache-2.0 */
/* Events and metrics of the admin API. The difficulty: both are read by programs, so their form is
 * taken apart here as a program would, line by line. */
#include "admin_case.h"

/* --- events -------------------------------------------------------------------------------- */

/* Takes the stream apart: every block is a comment, or an event with one line of JSON. */
static size_t events_of(const struct reply *r, const char *name, const char *words)
{
    const char *at = r->body.data;
    size_t found = 0;

    ck_assert_str_eq(r->type, "text/event-stream");
    ck_assert(!r->last);
    while (*at) {
        const char *end = strstr(at, "\n\n"), *data = strstr(at, "\ndata: ");
        struct json *n;
        ck_assert_ptr_nonnull(end);
        if (*at != ':') {
            ck_assert(strncmp(at, "event: ", 7) == 0 && data && data < end);
            data += 7;
            n = json_parse((struct kg_str){data, (size_t)(end - data)}, 65536, 8, NULL, NULL);
            ck_assert_ptr_nonnull(n);
            ck_assert_ptr_nonnull(json_get(n, "time"));
            if (strncmp(at + 7, name, strlen(name)) == 0 &&
                memmem(data, (size_t)(end - data), words, strlen(words)))
                found++;
            json_free(n);
        }
        at = end + 2;
    }
    return found;
}

START_TEST(test_events_tell_a_whole_life)
{
    uint64_t first = ask_for("GET", "/v1/events", ""), second = ask_for("GET", "/v1/events", "");
    const struct reply *r = reply_to(first);

    ck_assert_ptr_nonnull(r);
    ck_assert_int_eq(r->body.data[0], ':'); /* told at once that the stream stands */
    wake("/v1/services/a/wake");
    loop(3000); /* its idle timeout is 2 s */
    ck_assert(!exists);
    for (size_t i = 0; i < 2; i++, r = reply_to(second)) {
        ck_assert_uint_eq(events_of(r, "state", "\"to\":\"creating\""), 1);
        ck_assert_uint_eq(events_of(r, "state", "\"to\":\"ready\""), 1);
        ck_assert_uint_eq(events_of(r, "state", "\"to\":\"absent\""), 1);
        ck_assert_uint_eq(events_of(r, "cold-start", "\"result\":\"ok\""), 1);
        ck_assert_uint_eq(events_of(r, "reap", "\"detail\":\"remove\""), 1);
    }
}
END_TEST

START_TEST(test_followers_leave)
{
    uint64_t first = ask_for("GET", "/v1/events", ""), second = ask_for("GET", "/v1/events", "");
    size_t before;

    admin_gone(admin, first);
    before = reply_to(first)->body.len;
    admin_event(admin, "pull", "a", "line\nbreak \"quoted\" \xff");
    ck_assert_uint_eq(reply_to(first)->body.len, before);
    ck_assert_uint_eq(events_of(reply_to(second), "pull", "quoted"), 1);
    gone_request = second; /* found out by telling it */
    admin_event(admin, "pull", NULL, NULL);
    gone_request = 0;
    before = reply_to(second)->body.len;
    admin_event(admin, "pull", NULL, NULL);
    ck_assert_uint_eq(reply_to(second)->body.len, before);
}
END_TEST

/* --- metrics ------------------------------------------------------------------------------- */

static const char *metrics(void)
{
    const struct reply *r = ask("GET", "/metrics", "");

    ck_assert_int_eq(r->status, 200);
    ck_assert_int_eq(strncmp(r->type, "text/plain", 10), 0);
    return r->body.data;
}

static void sample(const char *text, const char *line)
{
    char whole[256];

    snprintf(whole, sizeof whole, "\n%s\n", line);
    ck_assert_msg(strstr(text, whole) != NULL, "%s is not there", line);
}

static void count_some(void)
{
    uint32_t id = (uint32_t)fleet_service_id(fleet, "b");

    pages[0]->services[id].requests[200 - PROXY_STATUS_MIN] = 3;
    pages[1]->services[id].requests[200 - PROXY_STATUS_MIN] = 4;
    pages[1]->services[id].requests[599 - PROXY_STATUS_MIN] = 1;
    pages[0]->services[id].refused[ORCH_QUEUE_FULL] = 5;
    pages[0]->refused[PROXY_BAD_REQUEST] = 6;
    pages[0]->services[id].exchanges = 2;
    pages[1]->services[id].exchanges = 1;
    kg_histogram_add_us(&pages[0]->services[id].duration, 700);
    kg_histogram_add_us(&pages[1]->services[id].duration, 700000);
    kg_histogram_add_us(&ping_times, 80);
}

START_TEST(test_metrics_are_sums_over_all_fronts)
{
    const char *text;

    count_some();
    text = metrics();
    sample(text, "kipgate_requests_total{service=\"b\",code=\"200\"} 7");
    sample(text, "kipgate_requests_total{service=\"b\",code=\"599\"} 1");
    sample(text, "kipgate_refused_total{service=\"b\",reason=\"queue-full\"} 5");
    sample(text, "kipgate_refused_total{service=\"\",reason=\"bad-request\"} 6");
    sample(text, "kipgate_exchanges{service=\"b\"} 3");
    sample(text, "kipgate_waiting{service=\"a\"} 0");
    sample(text, "kipgate_request_duration_seconds_bucket{service=\"b\",le=\"0.001\"} 1");
    sample(text, "kipgate_request_duration_seconds_bucket{service=\"b\",le=\"+Inf\"} 2");
    sample(text, "kipgate_request_duration_seconds_count{service=\"b\"} 2");
    sample(text, "kipgate_engine_up 1");
    sample(text, "kipgate_engine_call_seconds_count{op=\"ping\"} 1");
    sample(text, "kipgate_build_info{version=\"" KIPGATE_VERSION "\"} 1");
    sample(text, "kipgate_cold_starts_total{service=\"a\",result=\"ok\"} 0");
    sample(text, "kipgate_reaped_total{service=\"a\",action=\"remove\"} 0");
    sample(text, "kipgate_instances{service=\"a\",state=\"ready\"} 0");
}
END_TEST

START_TEST(test_metrics_of_a_life)
{
    const char *text;

    wake("/v1/services/a/wake");
    text = metrics();
    sample(text, "kipgate_instances{service=\"a\",state=\"ready\"} 1");
    sample(text, "kipgate_cold_starts_total{service=\"a\",result=\"ok\"} 1");
    sample(text, "kipgate_cold_start_seconds_count{service=\"a\",phase=\"create\"} 1");
    sample(text, "kipgate_cold_start_seconds_count{service=\"a\",phase=\"start\"} 1");
    sample(text, "kipgate_cold_start_seconds_count{service=\"a\",phase=\"ready\"} 1");
    sample(text, "kipgate_cold_start_seconds_count{service=\"a\",phase=\"total\"} 1");
    loop(3000);
    engine_up = false;
    text = metrics();
    sample(text, "kipgate_instances{service=\"a\",state=\"ready\"} 0");
    sample(text, "kipgate_reaped_total{service=\"a\",action=\"remove\"} 1");
    sample(text, "kipgate_engine_up 0");
}
END_TEST

/* What has been shown once is shown from then on: a rate is told from its changes. */
START_TEST(test_no_counter_goes_when_another_comes)
{
    uint32_t id = (uint32_t)fleet_service_id(fleet, "a");
    const char *text;

    admin_reaped(admin, id, "pause");
    text = metrics();
    sample(text, "kipgate_reaped_total{service=\"a\",action=\"pause\"} 1");
    sample(text, "kipgate_reaped_total{service=\"a\",action=\"remove\"} 0");
    admin_reaped(admin, id, "remove");
    text = metrics();
    sample(text, "kipgate_reaped_total{service=\"a\",action=\"remove\"} 1");
    ck_assert_ptr_null(strstr(text, "action=\"remove\"} 0\nkipgate_reaped_total{service=\"a\""));
}
END_TEST

/* When all numbers are used up the longest gone is given again. What another service counted
 * under it is not the new one's. */
START_TEST(test_a_number_that_is_given_again_counts_anew)
{
    static const char c_is[] = "{\"image\": \"y\", \"routes\": [\"/c\"]}";
    int id;
    const char *text;

    ck_assert_int_eq(ask("PUT", "/v1/services/c", c_is)->status, 201);
    id = fleet_service_id(fleet, "c");
    ck_assert_int_eq(fleet_reserve_service(fleet, "last", KG_MAX_SERVICES - 1), 0);
    pages[0]->services[id].requests[200 - PROXY_STATUS_MIN] = 7;
    pages[1]->services[id].refused[ORCH_QUEUE_FULL] = 3;
    kg_histogram_add_us(&pages[1]->services[id].duration, 700000);
    sample(metrics(), "kipgate_requests_total{service=\"c\",code=\"200\"} 7");
    ck_assert_int_eq(ask("DELETE", "/v1/services/c", "")->status, 200);
    ck_assert_int_eq(ask("PUT", "/v1/services/d", c_is)->status, 201);
    ck_assert_int_eq(fleet_service_id(fleet, "d"), id);
    text = metrics();
    ck_assert_ptr_null(strstr(text, "kipgate_requests_total{service=\"d\""));
    ck_assert_ptr_null(strstr(text, "kipgate_refused_total{service=\"d\""));
    sample(text, "kipgate_request_duration_seconds_count{service=\"d\"} 0");
    pages[0]->services[id].requests[200 - PROXY_STATUS_MIN]++;
    kg_histogram_add_us(&pages[0]->services[id].duration, 1000);
    text = metrics();
    sample(text, "kipgate_requests_total{service=\"d\",code=\"200\"} 1");
    sample(text, "kipgate_request_duration_seconds_sum{service=\"d\"} 0.001000");
}
END_TEST

/* Every line is a comment of a family, or a sample of the family named last; none comes twice. */
START_TEST(test_metrics_are_prometheus_text)
{
    const char *text, *next;
    char family[64] = "", line[512], twice[514];

    count_some();
    wake("/v1/services/a/wake");
    text = metrics();
    for (const char *at = text; *at; at = next + 1) {
        next = strchr(at, '\n');
        ck_assert_ptr_nonnull(next);
        ck_assert_uint_lt((size_t)(next - at), sizeof line);
        snprintf(line, sizeof line, "%.*s", (int)(next - at), at);
        snprintf(twice, sizeof twice, "\n%s\n", line);
        ck_assert_msg(!strstr(next, twice), "twice: %s", line);
        if (sscanf(line, "# HELP %63s", family) == 1 || strncmp(line, "# TYPE ", 7) == 0)
            continue;
        ck_assert_msg(*family && strncmp(line, family, strlen(family)) == 0, "%s", line);
        ck_assert_ptr_nonnull(strrchr(line, ' '));
        ck_assert_msg(strspn(strrchr(line, ' ') + 1, "0123456789.e+-") ==
                          strlen(strrchr(line, ' ') + 1),
                      "%s", line);
    }
}
END_TEST

START_TEST(test_words_beyond_the_last_place_are_other)
{
    struct admin_tally t[3] = {{.word = ""}};

    admin_tally_add(t, 3, "a");
    admin_tally_add(t, 3, "b");
    admin_tally_add(t, 3, "a");
    admin_tally_add(t, 3, "c");
    admin_tally_add(t, 3, "d");
    ck_assert_uint_eq(t[0].count, 2);
    ck_assert_uint_eq(t[1].count, 1);
    ck_assert_str_eq(t[2].word, "other");
    ck_assert_uint_eq(t[2].count, 2);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_events_tell_a_whole_life,           test_followers_leave,
        test_metrics_are_sums_over_all_fronts,   test_metrics_of_a_life,
        test_no_counter_goes_when_another_comes, test_a_number_that_is_given_again_counts_anew,
        test_metrics_are_prometheus_text,        test_words_beyond_the_last_place_are_other,
    };

    return run_cases("admin_metrics", tests, sizeof tests / sizeof *tests);
}
