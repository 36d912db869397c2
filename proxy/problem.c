/* SPDX-License-Identifier: Apache-2.0 */
/* Writes problem answers.
 * The difficulty: `detail` may quote an engine or a name; it leaves as an escaped JSON string only.
 */
#include "proxy/problem.h"
#include "base/err.h"
#include "base/log.h"
#include "proxy/http1.h"
#include "proxy/rewrite.h"

#define MAX_BODY_BYTES 16384
#define MS_PER_S 1000

static const struct phrase {
    int status;
    const char *words;
} phrases[] = {
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {426, "Upgrade Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
};

const char *problem_phrase(int status)
{
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
        if (phrases[i].status == status)
            return phrases[i].words;
    return "Unknown";
}

static int status_of(const struct problem *p)
{
    return p->status ? p->status : p->row->status;
}

int problem_body(struct kg_buf *out, const struct problem *p)
{
    const char *detail = p->detail && *p->detail ? p->detail : p->row->title;
    kg_buf_printf(out, "{\"type\":\"urn:kipgate:%s\",\"title\":\"", p->row->name);
    kg_json_escape(out, kg_str_of(p->row->title));
    kg_buf_printf(out, "\",\"status\":%d,\"detail\":\"", status_of(p));
    kg_json_escape(out, kg_str_of(detail));
    kg_buf_puts(out, "\",\"instance\":\"");
    kg_json_escape(out, p->id);
    return kg_buf_puts(out, "\"}\n");
}

long long problem_retry_after_s(int64_t ms)
{
    return ms <= MS_PER_S ? 1 : (ms - 1) / MS_PER_S + 1;
}

static void put_line(struct kg_buf *out, const char *name_colon, struct kg_str value)
{
    kg_buf_puts(out, name_colon);
    kg_buf_append(out, value.p, value.n);
    kg_buf_puts(out, "\r\n");
}

static void put_head(struct kg_buf *out, const struct problem *p, size_t body_bytes,
                     bool keep_alive)
{
    char timing[REWRITE_TIMING_BYTES];
    int status = status_of(p);

    kg_buf_printf(out, "HTTP/1.1 %d %s\r\n", status, problem_phrase(status));
    if (status != 204)
        kg_buf_printf(out,
                      "Content-Type: application/problem+json\r\nContent-Length: %zu\r\n"
                      "Cache-Control: no-store\r\n",
                      body_bytes);
    put_line(out, "X-Request-Id: ", p->id);
    if (p->wall_ms > 0)
        put_line(out, "Date: ", rewrite_date(p->wall_ms));
    if (status == 429 || status == 503)
        kg_buf_printf(out, "Retry-After: %lld\r\n", problem_retry_after_s(p->retry_after_ms));
    if (status == 405 || status == 204)
        kg_buf_puts(out, "Allow: " HTTP1_ALLOW "\r\n");
    if (rewrite_timing(timing, p->warmth, p->waited_us))
        put_line(out, "Server-Timing: ", kg_str_of(timing));
    if (!keep_alive)
        kg_buf_puts(out, "Connection: close\r\n");
    else if (p->client_minor == 0)
        kg_buf_puts(out, "Connection: keep-alive\r\n");
    kg_buf_puts(out, "\r\n");
}

int problem_write(struct kg_buf *out, const struct problem *p, bool *keep_alive)
{
    bool keep = p->keep_alive && !p->row->closes;
    struct kg_buf body;

    kg_buf_init(&body, MAX_BODY_BYTES);
    int rc = problem_body(&body, p);
    if (rc == KG_ELIMIT) { /* an endless detail: the row's own words will do */
        struct problem brief = *p;
        brief.detail = NULL;
        kg_buf_clear(&body);
        rc = problem_body(&body, &brief);
    }
    if (rc == 0) {
        put_head(out, p, body.len, keep);
        if (!p->head && status_of(p) != 204)
            kg_buf_append(out, body.data, body.len);
        rc = out->error;
    }
    kg_buf_fini(&body);
    if (keep_alive)
        *keep_alive = keep;
    return rc;
}
