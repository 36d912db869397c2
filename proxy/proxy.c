/* SPDX-License-Identifier: Apache-2.0 */
/* The proxy's life: open, drain, close; and what the gate answered, taken up from the loop.
 * The difficulty: the gate answers from inside its own calls, so nothing is done there and then. */
#include "proxy/proxy.h"
#include "base/clock.h"
#include "proxy/client_priv.h"
#include "proxy/exchange_priv.h"
#include "proxy/http2_priv.h"
#include "proxy/proxy_priv.h"
#include "proxy/tls_priv.h"
#include <stdlib.h>
#include <unistd.h>

#define ARENA_BLOCK_BYTES 8192
#define ARENA_KEPT_BLOCKS 256
#define WALL_AGE_MS 500

int64_t proxy_wall_ms(struct proxy *p)
{
    int64_t now = proxy_now(p);

    if (p->wall_ms == 0 || now - p->wall_at_ms >= WALL_AGE_MS) {
        p->wall_ms = kg_clock_wall_ms();
        p->wall_at_ms = now;
    }
    return p->wall_ms + now - p->wall_at_ms;
}

size_t proxy_connections(const struct proxy *p)
{
    return p->connections;
}

/* --- the loop's turn ----------------------------------------------------------------------- */

static void on_soon(uv_timer_t *t)
{
    struct proxy *p = t->data;
    void (*on_drained)(void *) = p->on_drained;
    struct kg_list *first;

    while (!p->closing && (first = kg_list_first(&p->soon)) != NULL) {
        kg_list_remove(first);
        exchange_go_on(KG_LIST_ENTRY(first, struct exchange, soon));
    }
    if (p->closing || !on_drained || p->exchanges > 0 || p->connections > 0)
        return;
    p->on_drained = NULL;
    on_drained(p->drained_arg);
}

void proxy_soon(struct proxy *p)
{
    if (!p->closing && !uv_is_active((uv_handle_t *)&p->soon_timer))
        uv_timer_start(&p->soon_timer, on_soon, 0, 0);
}

/* --- open ---------------------------------------------------------------------------------- */

static struct proxy *proxy_new(const struct proxy_params *params)
{
    struct proxy *p = calloc(1, sizeof *p);

    if (!p)
        return NULL;
    p->loop = params->loop;
    p->params = *params;
    p->params.listeners = NULL;
    p->gate = params->gate;
    p->stats = params->stats;
    p->log.fd = -1;
    kg_list_init(&p->soon);
    kg_list_init(&p->clients);
    kg_list_init(&p->locals);
    kg_list_init(&p->workers);
    kg_list_init(&p->idle_upstreams);
    kg_map_init(&p->per_client);
    kg_arena_pool_init(&p->arenas, ARENA_BLOCK_BYTES, ARENA_KEPT_BLOCKS);
    return p;
}

/* Timers and the like cannot fail in libuv; of the listeners, all descriptors are taken over. */
static int open_handles(struct proxy *p, const struct proxy_params *params, struct kg_err *err)
{
    bool secure = false;
    int rc = 0;

    kg_wheel_open(&p->wheel, p->loop);
    uv_timer_init(p->loop, &p->soon_timer);
    uv_timer_init(p->loop, &p->accept_again);
    p->soon_timer.data = p->accept_again.data = p;
    p->handles = 3;
    access_log_open(p, params->access_log_fd);
    http2_turns_open(p);
    for (size_t i = 0; i < params->listener_count; i++)
        secure |= params->listeners[i].secure;
    if (secure && !(p->tls = tls_server_open(p)))
        rc = kg_fail(err, KG_ENOMEM, "out of memory");
    for (size_t i = 0; i < params->listener_count; i++) {
        if (rc == 0)
            rc = listener_open(&p->listeners[p->listener_count++], p, &params->listeners[i], err);
        else
            close(params->listeners[i].fd);
    }
    return rc;
}

struct proxy *proxy_open(const struct proxy_params *params, struct kg_err *err)
{
    struct proxy *p = NULL;

    KG_ASSERT(params->listener_count <= KG_MAX_LISTEN + 1);
    p = proxy_new(params);
    if (!p) {
        kg_fail(err, KG_ENOMEM, "out of memory");
        return NULL;
    }
    rewrite_seed(); /* before a sandbox closes on us */
    if (open_handles(p, params, err) == 0)
        return p;
    proxy_close(p, NULL, NULL);
    return NULL;
}

/* --- drain and close ----------------------------------------------------------------------- */

/* Local listeners stay: whoever watches the drain asks there. */
void proxy_drain(struct proxy *p, void (*on_drained)(void *arg), void *arg)
{
    p->draining = true;
    p->on_drained = on_drained;
    p->drained_arg = arg;
    for (size_t i = 0; i < p->listener_count; i++)
        if (!p->listeners[i].local)
            listener_close(&p->listeners[i]);
    clients_close(p, true);
    proxy_soon(p);
}

void proxy_stop_local(struct proxy *p)
{
    for (size_t i = 0; i < p->listener_count; i++)
        if (p->listeners[i].local)
            listener_close(&p->listeners[i]);
}

static void proxy_free(struct proxy *p)
{
    void (*on_closed)(void *) = p->on_closed;
    void *arg = p->closed_arg;

    KG_ASSERT(p->exchanges == 0 && p->waiting == 0 && p->connections == 0);
    KG_ASSERT(kg_list_empty(&p->clients) && kg_list_empty(&p->workers) && p->upstreams == 0);
    generation_unref(p->current);
    generation_unref(p->next);
    tls_server_free(p->tls);
    kg_map_fini(&p->per_client);
    kg_arena_pool_fini(&p->arenas);
    client_http2_free_spares();
    free(p);
    if (on_closed)
        on_closed(arg);
}

void proxy_handle_closed(struct proxy *p)
{
    KG_ASSERT(p->handles > 0);
    if (--p->handles == 0 && p->closing)
        proxy_free(p);
}

static void on_timer_closed(uv_handle_t *h)
{
    proxy_handle_closed(h->data);
}

static void on_wheel_closed(uv_handle_t *h)
{
    proxy_handle_closed(KG_CONTAINER_OF(h->data, struct proxy, wheel));
}

void proxy_close(struct proxy *p, void (*on_closed)(void *arg), void *arg)
{
    KG_ASSERT(!p->closing);
    p->on_closed = on_closed;
    p->closed_arg = arg;
    p->closing = true;
    for (size_t i = 0; i < p->listener_count; i++)
        listener_close(&p->listeners[i]);
    clients_close(p, false);
    workers_close(p);
    access_log_close(p);
    http2_turns_close(p);
    if (p->tls)
        tls_server_close(p->tls);
    uv_close((uv_handle_t *)&p->soon_timer, on_timer_closed);
    uv_close((uv_handle_t *)&p->accept_again, on_timer_closed);
    kg_wheel_close(&p->wheel, on_wheel_closed);
}
