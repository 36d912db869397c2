/* SPDX-License-Identifier: Apache-2.0 */
/* The front processes. The difficulty: a front that dies again and again must neither spin nor take
 * its sockets, leases or counters with it. */
#include "base/clock.h"
#include "orchestrator/certificates.h"
#include "orchestrator/confine.h"
#include "orchestrator/front.h"
#include "orchestrator/fronts_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAUSE_LAST_MS 5000
#define PAUSE_FIRST_MS 50
#define LIVED_LONG_MS 10000 /* a front that served so long is started again at once */
#define READY_TICKS 4       /* the deadline is no single one: see arm_deadline */
#define MOST_BEHIND (KG_MAX_CHANNEL_QUEUE / 4) /* messages: above it no configuration is told */
#define LIVE_FDS (FRONT_FD_LISTENERS + KG_MAX_LISTEN + 1)

static void session_start(struct front_session *s);

static void reset_service(void *arg, const char *name, uint32_t id)
{
    struct proxy_stats *stats = arg;

    (void)name;
    stats->services[id].exchanges = stats->services[id].waiting = 0;
}

/* What a dead front counted stays counted; what it had in hand it has no more, also of services
 * that are gone: they may come back. */
static void reset_gauges(struct front_session *s)
{
    s->stats->connections = s->stats->exchanges = 0;
    fleet_each_service(s->fronts->fleet, reset_service, s->stats);
}

static void kill_attached(const struct front_session *s)
{
    syscall(SYS_pidfd_send_signal, s->pid_fd, SIGKILL, NULL, 0);
}

static void session_void(struct front_session *s)
{
    if (s->channel)
        kg_channel_close(s->channel, NULL);
    s->channel = NULL;
    s->ready = false;
    s->admin.request = 0;
    s->last_ticket = 0;
    kg_buf_fini(&s->body);
    fleet_front_down(s->fronts->fleet, s->index, kg_clock_mono_ms());
}

static void on_again(uv_timer_t *t)
{
    session_start(t->data);
}

static void session_pause(struct front_session *s)
{
    if (kg_clock_mono_ms() - s->ready_ms > LIVED_LONG_MS)
        s->pause_ms = 0;
    uv_timer_start(&s->timer, on_again, (uint64_t)s->pause_ms, 0);
    s->pause_ms = s->pause_ms ? s->pause_ms * 2 : PAUSE_FIRST_MS;
    if (s->pause_ms > PAUSE_LAST_MS)
        s->pause_ms = PAUSE_LAST_MS;
}

static bool all_dead(const struct fronts *f)
{
    for (size_t i = 0; i < f->count; i++)
        if (f->sessions[i].alive)
            return false;
    return true;
}

static void maybe_ended(struct fronts *f)
{
    if (!f->ending || f->told_ended || !all_dead(f))
        return;
    f->told_ended = true;
    f->params.all_ended(f->params.arg);
}

static void gone(struct front_session *s)
{
    s->alive = false;
    reset_gauges(s);
    if (!s->fronts->ending)
        session_pause(s);
    maybe_ended(s->fronts);
}

/* One that was not started by us: its end is the channel's. */
static void detach(struct front_session *s)
{
    if (!s->fronts->ending)
        KG_LOG(KG_LOG_WARN, "front-ended", KG_FN("front", s->index));
    kill_attached(s);
    /* It is a child of ours where we were started anew; one that could not be killed is not waited
     * for. */
    waitpid(s->pid, NULL, s->pid_fd >= 0 ? 0 : WNOHANG);
    if (s->pid_fd >= 0)
        close(s->pid_fd);
    s->pid_fd = -1;
    s->attached = false;
    gone(s);
}

static void on_lost(void *arg)
{
    struct front_session *s = arg;

    session_void(s);
    if (s->attached)
        detach(s);
    else if (s->alive && !s->fronts->ending) /* a front at its end exits by itself */
        uv_process_kill(&s->process, SIGKILL);
}

void fronts_distrust(struct front_session *s, const char *why)
{
    KG_LOG(KG_LOG_ERROR, "front-distrusted", KG_FN("front", s->index), KG_F("why", why));
    on_lost(s);
}

/* --- a deadline to be ready ----------------------------------------------------------------- */

static void on_ready_tick(uv_timer_t *t)
{
    struct front_session *s = t->data;

    if (!s->ready && --s->ticks > 0)
        return;
    uv_timer_stop(t);
    if (s->channel && !s->ready)
        fronts_distrust(s, "it hangs at its start");
}

/* In parts, each of which needs a turn of the loop: where control itself stood still, what a front
 * has said meanwhile is heard before the last of them. */
static void arm_deadline(struct front_session *s)
{
    uint64_t part_ms = KG_FRONT_READY_MS / READY_TICKS;

    s->ticks = READY_TICKS;
    uv_timer_start(&s->timer, on_ready_tick, part_ms, part_ms);
}

/* --- processes ------------------------------------------------------------------------------- */

static void on_process_closed(uv_handle_t *h)
{
    struct front_session *s = h->data;

    gone(s);
}

static void on_exit_(uv_process_t *process, int64_t status, int signal_number)
{
    struct front_session *s = process->data;

    if (!s->fronts->ending)
        KG_LOG(KG_LOG_WARN, "front-ended", KG_FN("front", s->index), KG_FN("status", status),
               KG_FN("signal", signal_number));
    if (s->channel)
        session_void(s);
    uv_close((uv_handle_t *)process, on_process_closed);
}

static uv_stdio_container_t inherit(int fd)
{
    return (uv_stdio_container_t){.flags = fd >= 0 ? UV_INHERIT_FD : UV_IGNORE, .data = {.fd = fd}};
}

static int gather_fds(const struct front_session *s, int channel, uv_stdio_container_t *fds)
{
    const struct fronts_params *p = &s->fronts->params;
    int n = 0;

    fds[n++] = inherit(-1);
    fds[n++] = inherit(p->stderr_fd); /* nothing of a front belongs on standard output */
    fds[n++] = inherit(p->stderr_fd);
    fds[n++] = inherit(channel);
    fds[n++] = inherit(s->stats_fd);
    fds[n++] = inherit(state_life(p->state, (size_t)s->index));
    fds[n++] = inherit(p->access_log_fd);
    fds[n++] = inherit(s->door_fd);
    for (size_t i = 0; i < p->listeners->count; i++)
        fds[n++] = inherit(listen_fd(&p->listeners->sets[i], (size_t)s->index));
    if (p->listeners->admin.count > 0 && s->index == 0)
        fds[n++] = inherit(listen_fd(&p->listeners->admin, 0));
    return n;
}

/* Control's environment may hold the workers' secrets; a front needs nothing of it but what its
 * program is loaded by. (The sanitizers are told by theirs what to do.) */
static char **environment(char *out[2], char *text, size_t cap)
{
#ifdef KG_SANITIZE
    (void)out;
    (void)text;
    (void)cap;
    return NULL; /* all of ours */
#else
    const char *path = getenv("LD_LIBRARY_PATH");

    out[0] = out[1] = NULL;
    if (path && snprintf(text, cap, "LD_LIBRARY_PATH=%s", path) < (int)cap)
        out[0] = text;
    return out;
#endif
}

static int spawn(struct front_session *s, int channel)
{
    char *variables[2], text[4096];
    uv_stdio_container_t fds[LIVE_FDS];
    char name[] = "kipgate", command[] = "front", *args[] = {name, command, NULL};
    uv_process_options_t options = {.exit_cb = on_exit_,
                                    .file = s->fronts->program,
                                    .args = args,
                                    .env = environment(variables, text, sizeof text),
                                    .stdio = fds,
                                    .stdio_count = gather_fds(s, channel, fds)};
    int rc;

    (void)state_make_sockets(s->fronts->params.state, NULL); /* missing: the front says so */
    confine_close_on_exec();
    rc = uv_spawn(s->fronts->params.loop, &s->process, &options);
    s->process.data = s;
    s->alive = true; /* also when it failed: its handle must be closed */
    if (rc == 0)
        return 0;
    KG_LOG(KG_LOG_ERROR, "front-not-started", KG_FN("front", s->index),
           KG_F("why", uv_strerror(rc)));
    uv_close((uv_handle_t *)&s->process, on_process_closed);
    return KG_EIO;
}

static void begin(struct front_session *s)
{
    arm_deadline(s);
    s->config_due = false;
    fronts_tell_tls(s);
    fronts_tell_config(s);
    fleet_front_up(s->fronts->fleet, s->index, kg_clock_mono_ms());
}

static void session_start(struct front_session *s)
{
    int pair[2], rc;

    s->ready_ms = KG_NEVER;
    s->run++;
    if (kg_channel_pair(pair) != 0) {
        KG_LOG(KG_LOG_ERROR, "front-not-started", KG_F("why", strerror(errno)));
        session_pause(s);
        return;
    }
    rc = spawn(s, pair[1]);
    close(pair[1]);
    if (rc != 0) {
        close(pair[0]);
        return;
    }
    s->channel = kg_channel_open(s->fronts->params.loop, pair[0], fronts_on_message, on_lost, s);
    if (!s->channel) {
        uv_process_kill(&s->process, SIGKILL);
        return;
    }
    fronts_tell_setup(s);
    begin(s);
}

/* A front of an earlier control goes on as ours. */
static bool session_attach(struct front_session *s)
{
    struct attached *a = &s->fronts->params.listeners->attached[s->index];

    if (a->channel < 0)
        return false;
    s->ready_ms = KG_NEVER;
    s->run++;
    s->pid = a->pid;
    s->pid_fd = (int)syscall(SYS_pidfd_open, s->pid, 0);
    s->alive = s->attached = true;
    fcntl(a->channel, F_SETFL, fcntl(a->channel, F_GETFL) | O_NONBLOCK);
    s->channel = kg_channel_open(s->fronts->params.loop, a->channel, fronts_on_message, on_lost, s);
    a->channel = -1;
    if (!s->channel) {
        detach(s);
        return true;
    }
    begin(s);
    fleet_claims_begin(s->fronts->fleet, s->index, kg_clock_mono_ms());
    return true;
}

/* --- life ---------------------------------------------------------------------------------- */

static int session_init(struct fronts *f, size_t index, struct kg_err *err)
{
    struct front_session *s = &f->sessions[index];
    const struct attached *a = &f->params.listeners->attached[index];
    void *page;

    s->fronts = f;
    s->index = (int)index;
    kg_buf_init(&s->body, 0);
    uv_timer_init(f->params.loop, &s->timer);
    s->timer.data = s;
    s->pid_fd = -1;
    s->stats_fd = a->channel >= 0 ? a->stats : memfd_create("kipgate-counters", MFD_CLOEXEC);
    s->door_fd = a->channel >= 0 ? a->door : state_attach_listen(f->params.state, index);
    if (s->stats_fd < 0 || ftruncate(s->stats_fd, sizeof *s->stats) < 0)
        return kg_fail(err, KG_ENOMEM, "counters of a front: %s", strerror(errno));
    page = mmap(NULL, sizeof *s->stats, PROT_READ | PROT_WRITE, MAP_SHARED, s->stats_fd, 0);
    if (page == MAP_FAILED)
        return kg_fail(err, KG_ENOMEM, "counters of a front: %s", strerror(errno));
    s->stats = page;
    return 0;
}

struct fronts *fronts_new(const struct fronts_params *params, struct kg_err *err)
{
    size_t count = (size_t)params->config->fronts, size;
    struct fronts *f = calloc(1, sizeof *f + count * sizeof f->sessions[0]);

    if (!f) {
        kg_fail(err, KG_ENOMEM, "out of memory");
        return NULL;
    }
    f->params = *params;
    f->config = params->config;
    f->count = count;
#ifndef KG_SANITIZE /* the sanitizers' runtime reads /proc */
    state_sockets_dir(params->state, f->root, sizeof f->root);
#endif
    size = sizeof f->program;
    if (uv_exepath(f->program, &size) != 0)
        kg_fail(err, KG_EIO, "the program's own path cannot be found");
    for (size_t i = 0; i < count && err->code == 0; i++)
        session_init(f, i, err);
    return f;
}

void fronts_set_fleet(struct fronts *f, struct fleet *fleet)
{
    f->fleet = fleet;
}

void fronts_set_settle_ms(struct fronts *f, uint32_t settle_ms)
{
    f->params.settle_ms = settle_ms;
}

void fronts_start(struct fronts *f)
{
    for (size_t i = 0; i < f->count; i++)
        if (!session_attach(&f->sessions[i]))
            session_start(&f->sessions[i]);
}

/* It is told as a whole. Changes that come faster than a front reads are told as one, for beyond
 * what may wait the front would be lost. */
void fronts_tell_due(struct fronts *f)
{
    for (size_t i = 0; i < f->count; i++) {
        struct front_session *s = &f->sessions[i];
        if (!s->config_due || !s->channel || kg_channel_queued(s->channel) > MOST_BEHIND)
            continue;
        s->config_due = false;
        fronts_tell_config(s);
    }
}

void fronts_configure(struct fronts *f, const struct config *c)
{
    bool certify = c->loaded && !certificates_equal(c->loaded, f->config->loaded);

    f->config = c;
    for (size_t i = 0; i < f->count; i++)
        f->sessions[i].config_due = true;
    fronts_tell_due(f);
    if (certify)
        fronts_certify(f);
}

void fronts_certify(struct fronts *f)
{
    for (size_t i = 0; i < f->count; i++)
        if (f->sessions[i].channel)
            fronts_tell_tls(&f->sessions[i]);
}

void fronts_set_tickets(struct fronts *f, const struct tls_ticket_key *keys, unsigned count)
{
    MESSAGE_INIT(&f->tickets, TLS_TICKETS);
    f->tickets.count = count;
    memcpy(f->tickets.keys, keys, count * sizeof *keys);
    for (size_t i = 0; i < f->count; i++)
        fronts_send(&f->sessions[i], &f->tickets);
}

const struct proxy_stats *fronts_stats(const struct fronts *f, size_t front)
{
    return front < f->count ? f->sessions[front].stats : NULL;
}

bool fronts_listening(const struct fronts *f)
{
    for (size_t i = 0; i < f->count; i++)
        if (!f->sessions[i].ready)
            return false;
    return !f->ending;
}

static void end(struct fronts *f)
{
    f->ending = true;
    for (size_t i = 0; i < f->count; i++)
        uv_timer_stop(&f->sessions[i].timer);
}

void fronts_drain(struct fronts *f)
{
    struct message_plain m;

    end(f);
    MESSAGE_INIT(&m, DRAIN);
    for (size_t i = 0; i < f->count; i++)
        fronts_send(&f->sessions[i], &m);
    maybe_ended(f);
}

void fronts_kill(struct fronts *f)
{
    end(f);
    for (size_t i = 0; i < f->count; i++)
        if (f->sessions[i].attached)
            kill_attached(&f->sessions[i]);
        else if (f->sessions[i].alive && !uv_is_closing((uv_handle_t *)&f->sessions[i].process))
            uv_process_kill(&f->sessions[i].process, SIGKILL);
    maybe_ended(f);
}

static void on_timer_closed(uv_handle_t *h)
{
    struct fronts *f = ((struct front_session *)h->data)->fronts;

    if (--f->open_handles > 0)
        return;
    tls_wipe(&f->tickets, sizeof f->tickets);
    f->on_closed(f->closed_arg);
    free(f);
}

void fronts_free(struct fronts *f, void (*on_closed)(void *arg), void *arg)
{
    f->on_closed = on_closed;
    f->closed_arg = arg;
    f->open_handles = (int)f->count;
    for (size_t i = 0; i < f->count; i++) {
        struct front_session *s = &f->sessions[i];
        KG_ASSERT(!s->alive && !s->channel);
        munmap(s->stats, sizeof *s->stats);
        close(s->stats_fd);
        if (s->door_fd >= 0)
            close(s->door_fd);
        uv_close((uv_handle_t *)&s->timer, on_timer_closed);
    }
}
