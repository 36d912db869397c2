/* SPDX-License-Identifier: Apache-2.0 */
/* What control says to fronts and hears from them. The difficulty: a front reads strangers' bytes
 * and may have been taken over, so what it says can cost it its life but nothing else. */
#include "base/clock.h"
#include "orchestrator/certificates.h"
#include "orchestrator/fronts_priv.h"
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

void fronts_send(struct front_session *s, const void *message)
{
    const struct message_head *head = message;

    if (s->channel)
        kg_channel_send(s->channel, message, head->size);
}

/* --- set-up and configuration -------------------------------------------------------------- */

void fronts_tell_setup(struct front_session *s)
{
    const struct fronts *f = s->fronts;
    const struct listeners *from = f->params.listeners;
    struct message_setup m;
    size_t n = 0;

    MESSAGE_INIT(&m, SETUP);
    m.front = s->index;
    for (; n < from->count; n++) {
        m.unix_socket[n] = from->sets[n].unix_socket;
        m.secure[n] = from->sets[n].secure;
    }
    if (from->admin.count > 0 && s->index == 0) {
        m.local[n] = 1;
        m.unix_socket[n++] = from->admin.unix_socket;
    }
    m.door = s->door_fd >= 0;
    m.control_user = geteuid();
    m.set_up = from->set_up;
    kg_str_copy(m.life, sizeof m.life, kg_str_of(f->params.state->lives[s->index].name));
    m.listeners = (uint32_t)n;
    m.access_log = f->params.access_log_fd >= 0;
    m.log_level = (uint8_t)f->config->log_level;
    m.log_format = f->config->log_format == KG_LOG_JSON;
    m.max_connections_per_client = (uint32_t)f->config->max_connections_per_client;
    m.protocols = (uint8_t)config_protocols(f->config);
    kg_str_copy(m.root, sizeof m.root, kg_str_of(f->root));
    fronts_send(s, &m);
}

static void tell_service(struct front_session *s, const struct config_service *c, uint32_t id)
{
    struct message_service m;
    struct message_quiet q;
    struct message_route r;

    MESSAGE_INIT(&m, CONFIG_SERVICE);
    m.service = id;
    m.strip_prefix = c->strip_prefix;
    m.h2c = c->protocol == CONFIG_PROTOCOL_H2C;
    m.quiet_status = c->quiet_status;
    m.request_timeout_ms = c->request_timeout_ms;
    m.max_body_bytes = c->max_body_bytes;
    kg_str_copy(m.name, sizeof m.name, kg_str_of(c->name));
    fronts_send(s, &m);
    for (unsigned i = 0; i < c->quiet_count; i++) {
        MESSAGE_INIT(&q, CONFIG_QUIET);
        q.quiet = c->quiet[i];
        fronts_send(s, &q);
    }
    for (size_t i = 0; i < c->route_count; i++) {
        MESSAGE_INIT(&r, CONFIG_ROUTE);
        r.service = id;
        kg_str_copy(r.host, sizeof r.host, kg_str_of(c->routes[i].host));
        kg_str_copy(r.prefix, sizeof r.prefix, kg_str_of(c->routes[i].prefix));
        fronts_send(s, &r);
    }
}

void fronts_tell_config(struct front_session *s)
{
    const struct config *c = s->fronts->config;
    struct message_plain m;

    MESSAGE_INIT(&m, CONFIG_BEGIN);
    fronts_send(s, &m);
    for (size_t i = 0; i < c->service_count; i++) {
        int id = fleet_service_id(s->fronts->fleet, c->services[i]->name);
        if (id >= 0)
            tell_service(s, c->services[i], (uint32_t)id);
    }
    MESSAGE_INIT(&m, CONFIG_COMMIT);
    fronts_send(s, &m);
}

/* --- TLS ----------------------------------------------------------------------------------- */

static void tell_file(struct front_session *s, size_t index, enum tls_part part, struct kg_str file)
{
    _Alignas(8) char bytes[KG_MAX_MESSAGE_BYTES];
    struct message_tls_piece *m = (void *)bytes;

    for (size_t at = 0; at < file.n; at += m->n) {
        size_t n = file.n - at < MESSAGE_MAX_PIECE ? file.n - at : MESSAGE_MAX_PIECE;
        message_init(m, MESSAGE_TLS_PIECE, sizeof *m + n);
        m->certificate = (uint32_t)index;
        m->part = (uint8_t)part;
        m->total = (uint32_t)file.n;
        m->at = (uint32_t)at;
        m->n = (uint32_t)n;
        memcpy(m->bytes, file.p + at, n);
        fronts_send(s, m);
    }
    tls_wipe(bytes, sizeof bytes);
}

void fronts_tell_tls(struct front_session *s)
{
    const struct tls_material *t;
    struct message_tls_commit m;

    if (s->fronts->tickets.count > 0)
        fronts_send(s, &s->fronts->tickets);
    if (!s->fronts->config->loaded)
        return;
    t = certificates_material(s->fronts->config->loaded);
    for (size_t i = 0; i < t->count; i++) {
        tell_file(s, i, TLS_CHAIN, t->certificates[i].chain);
        tell_file(s, i, TLS_KEY, t->certificates[i].key);
        tell_file(s, i, TLS_OCSP, t->certificates[i].ocsp);
    }
    tell_file(s, 0, TLS_CLIENT_CA, t->client_ca);
    MESSAGE_INIT(&m, TLS_COMMIT);
    m.certificates = (uint32_t)t->count;
    fronts_send(s, &m);
}

/* --- the fleet's door ---------------------------------------------------------------------- */

static struct front_session *session_of(void *self, int front)
{
    struct fronts *f = self;

    KG_ASSERT(front >= 0 && (size_t)front < f->count);
    return &f->sessions[front];
}

static void door_grant(void *self, int front, uint64_t ticket, uint32_t service, uint64_t instance,
                       unsigned slots, enum proxy_warmth warmth, bool thawed,
                       const struct engine_container *where, int64_t linger_ms)
{
    struct message_grant m;

    MESSAGE_INIT(&m, GRANT);
    m.ticket = ticket;
    m.instance = instance;
    m.service = service;
    m.slots = slots;
    m.warmth = warmth;
    m.thawed = thawed;
    m.linger_ms = linger_ms;
    KG_ASSERT(message_set_address(&m.where, &where->address, where->address_length));
    memcpy(m.name, where->name, sizeof m.name);
    fronts_send(session_of(self, front), &m);
}

static void door_refuse(void *self, int front, uint64_t ticket, unsigned reason,
                        int64_t retry_after_ms, const char *detail)
{
    struct message_refuse m;

    MESSAGE_INIT(&m, REFUSE);
    m.ticket = ticket;
    m.reason = reason;
    m.retry_after_ms = retry_after_ms;
    kg_str_copy(m.detail, sizeof m.detail,
                (struct kg_str){detail, strnlen(detail, sizeof m.detail - 1)});
    fronts_send(session_of(self, front), &m);
}

static void tell_instance(void *self, int front, enum message_type type, uint64_t instance)
{
    struct message_instance m;

    message_init(&m, type, sizeof m);
    m.instance = instance;
    fronts_send(session_of(self, front), &m);
}

static void door_recall(void *self, int front, uint64_t instance)
{
    tell_instance(self, front, MESSAGE_RECALL, instance);
}

static void door_probe(void *self, int front, uint64_t instance, const struct config_service *c,
                       const struct engine_container *where)
{
    struct fronts *f = self;
    struct message_probe m;
    int id = fleet_service_id(f->fleet, c->name);

    MESSAGE_INIT(&m, PROBE);
    m.instance = instance;
    m.service = id >= 0 ? (uint32_t)id : 0;
    m.health = c->health;
    m.health.settle_ms = f->params.settle_ms;
    KG_ASSERT(message_set_address(&m.where, &where->address, where->address_length));
    memcpy(m.name, where->name, sizeof m.name);
    fronts_send(session_of(self, front), &m);
}

static void door_probe_stop(void *self, int front, uint64_t instance)
{
    tell_instance(self, front, MESSAGE_PROBE_STOP, instance);
}

static void door_gone(void *self, int front, uint64_t instance)
{
    tell_instance(self, front, MESSAGE_GONE, instance);
}

static void door_renamed(void *self, int front, uint64_t known_as, uint64_t instance,
                         int64_t linger_ms)
{
    struct message_renamed m;

    MESSAGE_INIT(&m, RENAMED);
    m.known_as = known_as;
    m.instance = instance;
    m.linger_ms = linger_ms;
    fronts_send(session_of(self, front), &m);
}

struct fleet_fronts fronts_door(struct fronts *f)
{
    return (struct fleet_fronts){f,          door_grant,      door_refuse, door_recall,
                                 door_probe, door_probe_stop, door_gone,   door_renamed};
}

/* --- admin --------------------------------------------------------------------------------- */

/* A request's number for the rest of control: unique over the runs of a front. */
#define RUN_SHIFT 40
static uint64_t admin_number(const struct front_session *s, uint64_t request)
{
    return (uint64_t)s->run << RUN_SHIFT | (request & ((1ull << RUN_SHIFT) - 1));
}

static void admin_whole(struct front_session *s)
{
    struct admin_request r = {.id = admin_number(s, s->admin.request),
                              .method = kg_str_of(s->admin.method),
                              .path = kg_str_of(s->admin.path),
                              .query = kg_str_of(s->admin.query),
                              .body = kg_buf_str(&s->body)};

    s->admin.request = 0;
    s->fronts->params.admin_request(s->fronts->params.arg, &r);
    kg_buf_fini(&s->body);
}

static void on_admin_request(struct front_session *s, const struct message_admin_request *m)
{
    if (s->index != 0 || m->request == 0 || s->admin.request != 0) {
        fronts_distrust(s, "an admin request out of order");
        return;
    }
    s->admin = *m;
    kg_buf_init(&s->body, m->body_bytes);
    if (m->body_bytes == 0)
        admin_whole(s);
}

static void on_admin_body(struct front_session *s, const struct message_admin_body *m)
{
    if (s->admin.request == 0 || m->request != s->admin.request ||
        kg_buf_append(&s->body, m->bytes, m->n) != 0) {
        fronts_distrust(s, "an admin body out of order");
        return;
    }
    if (s->body.len == s->admin.body_bytes)
        admin_whole(s);
}

static void fill_reply(struct message_admin_reply *m, uint64_t request,
                       const struct proxy_local_answer *a)
{
    m->request = request & ((1ull << RUN_SHIFT) - 1);
    m->status = a->status;
    m->retry_after_ms = a->retry_after_ms;
    kg_str_copy(m->type, sizeof m->type, kg_str_of(a->type ? a->type : ""));
    kg_str_copy(m->allow, sizeof m->allow, kg_str_of(a->allow ? a->allow : ""));
}

bool fronts_admin_reply(struct fronts *f, uint64_t request, const struct proxy_local_answer *a)
{
    _Alignas(8) char bytes[KG_MAX_MESSAGE_BYTES];
    struct message_admin_reply *m = (void *)bytes;
    struct front_session *s = &f->sessions[0];
    struct kg_str left = a->body;

    if (request >> RUN_SHIFT != s->run || !s->channel)
        return false;
    do {
        size_t piece = left.n < MESSAGE_MAX_PIECE ? left.n : MESSAGE_MAX_PIECE;
        message_init(m, MESSAGE_ADMIN_REPLY, sizeof *m + piece);
        fill_reply(m, request, a);
        m->last = a->last && piece == left.n;
        m->n = (uint32_t)piece;
        if (piece > 0) {
            memcpy(m->bytes, left.p, piece);
            left = (struct kg_str){left.p + piece, left.n - piece};
        }
        fronts_send(s, m);
    } while (left.n > 0);
    return true;
}

/* --- what fronts say ----------------------------------------------------------------------- */

static void on_acquire(struct front_session *s, const struct message_acquire *m)
{
    if (m->ticket <= s->last_ticket) { /* the number in it must rise, whatever its service */
        fronts_distrust(s, "a ticket that was used before");
        return;
    }
    s->last_ticket = m->ticket | ((1u << MESSAGE_SERVICE_BITS) - 1);
    fleet_acquire(s->fronts->fleet, s->index, m->ticket, message_ticket_service(m->ticket),
                  m->quiet, kg_clock_mono_ms());
}

/* Only what a front brought along from a former control, before it asks for anything of ours. */
static void on_claim(struct front_session *s, const struct message_claim *m)
{
    if (!s->attached || s->last_ticket > 0)
        fronts_distrust(s, "a claim out of order");
    else
        fleet_claim(s->fronts->fleet, s->index, m->instance, m->name, m->slots, m->used_ms,
                    kg_clock_mono_ms());
}

static void on_lease_message(struct front_session *s, const struct message_head *head)
{
    struct fleet *fleet = s->fronts->fleet;
    int64_t now_ms = kg_clock_mono_ms();
    const void *m = head;
    const struct message_return *r = m;
    uint64_t instance = ((const struct message_instance *)m)->instance;

    if (head->type == MESSAGE_WITHDRAW)
        fleet_withdraw(fleet, s->index, ((const struct message_ticket *)m)->ticket, now_ms);
    else if (head->type == MESSAGE_RETURN)
        fleet_return(fleet, s->index, instance, r->slots, r->used_ms, r->recalled != 0, now_ms);
    else if (head->type == MESSAGE_PROBED)
        fleet_probed(fleet, s->index, instance, now_ms);
    else if (head->type == MESSAGE_CLAIM)
        on_claim(s, m);
    else if (head->type == MESSAGE_SUSPECT)
        fleet_suspect(fleet, s->index, instance, now_ms);
}

void fronts_on_message(void *arg, const void *bytes, size_t n)
{
    struct front_session *s = arg;
    const struct message_head *head = message_check(bytes, n, false);

    if (!head) {
        fronts_distrust(s, "a message that is none of ours");
        return;
    }
    switch ((enum message_type)head->type) {
    case MESSAGE_READY: /* behind its claims */
        if (!s->ready)
            s->ready_ms = kg_clock_mono_ms();
        s->ready = true;
        fleet_claims_end(s->fronts->fleet, s->index, kg_clock_mono_ms());
        return;
    case MESSAGE_ACQUIRE:
        on_acquire(s, (const void *)head);
        return;
    case MESSAGE_ADMIN_REQUEST:
        on_admin_request(s, (const void *)head);
        return;
    case MESSAGE_ADMIN_BODY:
        on_admin_body(s, (const void *)head);
        return;
    case MESSAGE_ADMIN_GONE:
        s->fronts->params.admin_gone(
            s->fronts->params.arg,
            admin_number(s, ((const struct message_ticket *)(const void *)head)->ticket));
        return;
    default:
        on_lease_message(s, head);
    }
}
