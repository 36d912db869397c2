/* SPDX-License-Identifier: Apache-2.0 */
/* Control's end of its channels: what it says and hears goes through its own code for that
 * (orchestrator/fronts_talk.c), with the judges between the fleet and it. The difficulty: processes
 * and sockets are left out, so what fronts.c does about them is done here. */
#include "orchestrator/certificates.h"
#include "orchestrator/fronts_priv.h"
#include "tests/sim/sim.h"
#include <stdlib.h>

struct kg_channel { /* in the place of base/channel.c's */
    struct world *world;
    struct sim_front *front;
};

int kg_channel_send(struct kg_channel *c, const void *bytes, size_t n)
{
    SIM_ASSERT(c->world, message_check(bytes, n, true) && n <= KG_MAX_MESSAGE_BYTES);
    push_to_front(c->world, c->front, bytes, n);
    return 0;
}

/* Not reached: there are no processes, files or TLS here. */
int state_attach_connect(const struct state *s, size_t index)
{
    (void)s;
    (void)index;
    sim_fail(sim_playing, "nobody connects");
}

unsigned config_protocols(const struct config *c)
{
    (void)c;
    sim_fail(sim_playing, "nobody is set up");
}

const struct tls_material *certificates_material(const struct certificates *c)
{
    (void)c;
    sim_fail(sim_playing, "nobody has certificates");
}

void tls_wipe(void *secret, size_t n)
{
    (void)secret;
    (void)n;
    sim_fail(sim_playing, "nobody has keys");
}

/* --- sessions --- */

static void session_void(struct world *w, struct front_session *s)
{
    free(s->channel);
    s->channel = NULL;
    s->last_ticket = 0;
    judge_front_down(w, s->index);
    fleet_front_down(w->fleet, s->index, w->now_ms);
}

void fronts_distrust(struct front_session *s, const char *why)
{
    struct world *w = sim_playing;

    sim_say(w, "front %d is distrusted: %s", s->index, why);
    session_void(w, s);
    front_is_killed(w, s->index);
}

bool talk_is_up(const struct world *w, int index)
{
    return w->talk->sessions[index].channel != NULL;
}

void talk_up(struct world *w, struct sim_front *f, bool attached)
{
    struct front_session *s = &w->talk->sessions[f->index];

    SIM_ASSERT(w, !s->channel);
    s->channel = malloc(sizeof *s->channel);
    SIM_ASSERT(w, s->channel != NULL);
    *s->channel = (struct kg_channel){w, f};
    s->attached = attached;
    fronts_tell_config(s);
    fleet_front_up(w->fleet, s->index, w->now_ms);
    if (attached)
        fleet_claims_begin(w->fleet, s->index, w->now_ms);
}

void talk_down(struct world *w, int index)
{
    if (w->fleet && talk_is_up(w, index))
        session_void(w, &w->talk->sessions[index]);
}

bool talk_accepts(struct world *w, const struct sim_front *f, const struct message_hello *m)
{
    return attach_is_ours(m, sizeof *m, (size_t)f->index, w->set_up, m->listeners + 2) != NULL;
}

/* --- what fronts say --- */

static int service_of(struct world *w, uint64_t ticket)
{
    int n = sim_index(w, message_ticket_service(ticket));

    return n < 0 ? SIM_SERVICES : n;
}

void talk_hears(struct world *w, struct sim_front *f, const void *bytes, size_t n)
{
    const struct message_head *head = bytes;
    const struct message_acquire *a = bytes;
    struct front_session *s = &w->talk->sessions[f->index];

    SIM_ASSERT(w, s->channel && s->channel->front == f);
    if (head->type == MESSAGE_ACQUIRE && a->ticket > s->last_ticket)
        judge_asked(w, f->index, a->ticket, service_of(w, a->ticket));
    else if (head->type == MESSAGE_WITHDRAW)
        judge_withdrawn(w, f->index, ((const struct message_ticket *)bytes)->ticket);
    w->counts->claims += head->type == MESSAGE_CLAIM;
    fronts_on_message(s, bytes, n);
}

/* --- the door --- */

static struct fleet_fronts real_door(void *self)
{
    return fronts_door(((struct world *)self)->talk);
}

static void door_grant(void *self, int front, uint64_t ticket, uint32_t service, uint64_t instance,
                       unsigned slots, enum proxy_warmth warmth, bool thawed,
                       const struct engine_container *where, int64_t linger_ms)
{
    struct world *w = self;
    struct fleet_fronts real = real_door(w);

    SIM_ASSERT(w, slots > 0 && where->address_length > 0 && linger_ms >= 0);
    SIM_ASSERT(w, warmth <= PROXY_PAUSED);
    judge_answered(w, front, ticket);
    judge_granted(w, sim_index(w, service), instance);
    real.grant(real.self, front, ticket, service, instance, slots, warmth, thawed, where,
               linger_ms);
    if (!w->calm && sim_often(w, TRAIT_CRASH_AT_GRANT))
        sim_crash_soon(w, 100); /* before that is written down */
}

static void door_refuse(void *self, int front, uint64_t ticket, unsigned reason,
                        int64_t retry_after_ms, const char *detail)
{
    struct world *w = self;
    struct fleet_fronts real = real_door(w);

    SIM_ASSERT(w, retry_after_ms >= 0 && retry_after_ms <= KG_BACKOFF_LAST_MS && detail[0]);
    SIM_ASSERT(w, reason != ORCH_BACKING_OFF || retry_after_ms > 0);
    judge_refused(w, front, ticket, reason, retry_after_ms);
    real.refuse(real.self, front, ticket, reason, retry_after_ms, detail);
}

static void door_recall(void *self, int front, uint64_t instance)
{
    struct fleet_fronts real = real_door(self);

    real.recall(real.self, front, instance);
}

static void door_probe(void *self, int front, uint64_t instance, const struct config_service *s,
                       const struct engine_container *where)
{
    struct fleet_fronts real = real_door(self);

    SIM_ASSERT((struct world *)self, where->address_length > 0);
    real.probe(real.self, front, instance, s, where);
}

static void door_probe_stop(void *self, int front, uint64_t instance)
{
    struct fleet_fronts real = real_door(self);

    real.probe_stop(real.self, front, instance);
}

static void door_gone(void *self, int front, uint64_t instance)
{
    struct fleet_fronts real = real_door(self);

    real.gone(real.self, front, instance);
}

static void door_renamed(void *self, int front, uint64_t known_as, uint64_t instance,
                         int64_t linger_ms)
{
    struct world *w = self;
    struct fleet_fronts real = real_door(w);
    const struct sim_front *f = w->talk->sessions[front].channel->front;

    if (!f->hostile && front_address(f, known_as))
        judge_renamed(w, front_address(f, known_as), instance);
    real.renamed(real.self, front, known_as, instance, linger_ms);
}

struct fleet_fronts talk_door(struct world *w)
{
    return (struct fleet_fronts){w,          door_grant,      door_refuse, door_recall,
                                 door_probe, door_probe_stop, door_gone,   door_renamed};
}

/* --- life --- */

void talk_begin(struct world *w)
{
    w->talk = calloc(1, sizeof *w->talk + SIM_FRONTS * sizeof w->talk->sessions[0]);
    SIM_ASSERT(w, w->talk != NULL);
    w->talk->count = SIM_FRONTS;
    for (int n = 0; n < SIM_FRONTS; n++) {
        w->talk->sessions[n].fronts = w->talk;
        w->talk->sessions[n].index = n;
    }
}

/* As fronts_configure, without certificates. */
void talk_configure(struct world *w, const struct config *c)
{
    w->talk->config = c;
    w->talk->fleet = w->fleet;
    for (int n = 0; n < SIM_FRONTS; n++)
        if (w->talk->sessions[n].channel)
            fronts_tell_config(&w->talk->sessions[n]);
}

void talk_end(struct world *w)
{
    for (int n = 0; n < SIM_FRONTS; n++)
        free(w->talk->sessions[n].channel);
    free(w->talk);
    w->talk = NULL;
}
