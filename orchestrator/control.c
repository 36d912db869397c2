/* SPDX-License-Identifier: Apache-2.0 */
/* Control's loop. The difficulty: nothing here owns a timer of its own; before each sleep the fleet
 * is asked when it is due, so that every path that changed it is covered by one line. */
#include "orchestrator/control.h"
#include "base/clock.h"
#include "base/loop.h"
#include "orchestrator/certificates.h"
#include "orchestrator/confine.h"
#include "orchestrator/digest.h"
#include "orchestrator/fronts.h"
#include "orchestrator/images.h"
#include "orchestrator/listeners.h"
#include "orchestrator/logs.h"
#include "orchestrator/parking.h"
#include "orchestrator/successor.h"
#include "orchestrator/tls_keeper.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SAVE_DELAY_MS 100
#define SAVE_AGAIN_MS 5000
#define OLD_FRONTS_LOOK_MS 200
#define SETTLE_MS 15000
#define EXIT_CONFIGURATION 2
#define WATCHED_AHEAD 1024 /* descriptors: more are watched as memory allows */
#define NUMBERS_SHIFT 20   /* so many instances a millisecond, and no number comes twice */
#define MAX_FAULTS_BYTES (64 * 1024)

enum control_stage {
    CONTROL_STARTING,
    CONTROL_SERVING,
    CONTROL_DRAINING, /* fronts finish what is open */
    CONTROL_SETTLING, /* the engine's last calls end; with remove_on_exit all instances go */
    CONTROL_CLOSING,
};

struct control {
    uv_loop_t loop;
    int argc;
    char **argv;
    enum control_stage stage;
    bool at_once; /* neither exchanges nor the engine are waited for */
    struct config *config;
    struct state state;
    struct listeners listeners;
    int access_log_fd, given_stderr;
    struct engine *engine;
    struct parking *parking; /* between the engine and the fleet */
    struct images *images;
    struct fleet *fleet;
    struct fronts *fronts;
    struct admin *admin;
    struct tls_keeper *keeper;
    struct successor successor;
    struct kg_buf faults; /* of certificates' files, as they were told last */
    uv_prepare_t prepare;
    uv_timer_t tick, save, old_fronts, end;
    uv_signal_t signals[4];
    uv_poll_t rivals; /* of our owner: where we hold its name */
};

static const int heard_signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR2};
#define ENDING_SIGNALS 2 /* the first of them are to end us */

static void control_close(struct control *c);
static void on_settled_late(uv_timer_t *t);

/* --- fleet's observer ---------------------------------------------------------------------- */

static void on_changed(void *self, const struct fleet_change *change)
{
    struct control *c = self;

    KG_LOG(KG_LOG_INFO, "instance-state", KG_F("service", change->service),
           KG_F("instance", change->name), KG_F("from", change->from), KG_F("to", change->to),
           KG_F("why", change->why), KG_FN("ms", change->ms));
    admin_changed(c->admin, change);
    if (c->stage == CONTROL_SETTLING) /* it goes on: many take their time */
        uv_timer_start(&c->end, on_settled_late, SETTLE_MS, 0);
}

static void on_cold_start(void *self, uint32_t service, bool success, const char *result,
                          const int64_t phase_ms[FLEET_PHASES])
{
    admin_cold_start(((struct control *)self)->admin, service, success, result, phase_ms);
}

static void on_reaped(void *self, uint32_t service, const char *action)
{
    admin_reaped(((struct control *)self)->admin, service, action);
}

static void on_resumed(void *self, uint32_t service)
{
    admin_resumed(((struct control *)self)->admin, service);
}

static void on_save(uv_timer_t *t)
{
    struct control *c = t->data;

    state_save(&c->state, c->fleet);
    state_save_habits(&c->state, c->fleet, false);
    if (!c->state.saved) /* a disk that was full may have room, with no change of a clock to save */
        uv_timer_start(t, on_save, SAVE_AGAIN_MS, 0);
}

static void on_clock_changed(void *self)
{
    struct control *c = self;

    if (c->state.dirty || c->stage == CONTROL_CLOSING)
        return;
    c->state.dirty = true;
    uv_timer_start(&c->save, on_save, SAVE_DELAY_MS, 0);
}

static void on_ending(void *self, const char *name)
{
    struct control *c = self;

    state_save_ending(&c->state, c->fleet, name);
}

/* --- engine's callbacks -------------------------------------------------------------------- */

static void on_engine_state(void *arg, bool up, const char *why)
{
    struct control *c = arg;

    KG_LOG(up ? KG_LOG_INFO : KG_LOG_WARN, up ? "engine-up" : "engine-down",
           KG_F("engine", c->config->engine), KG_F("why", why),
           KG_F("reach", up ? engine_reach_name(c->engine) : ""));
    if (up)
        fronts_set_settle_ms(c->fronts, engine_settle_ms(c->engine));
    parking_engine_state(c->parking, up);
    fleet_engine_state(c->fleet, up, why, kg_clock_mono_ms());
    images_engine_state(c->images, up);
    admin_event(c->admin, up ? "engine-up" : "engine-down", NULL, why);
}

static void on_parking_event(void *arg, const struct engine_event *event)
{
    fleet_engine_event(((struct control *)arg)->fleet, event, kg_clock_mono_ms());
}

static void on_engine_event(void *arg, const struct engine_event *event)
{
    if (!parking_event(((struct control *)arg)->parking, event))
        on_parking_event(arg, event);
}

static bool on_parking_list(void *arg, const struct engine_container *all, size_t count,
                            int64_t began_ms)
{
    return fleet_engine_list(((struct control *)arg)->fleet, all, count, began_ms,
                             kg_clock_mono_ms());
}

static void on_engine_list(void *arg, const struct engine_container *all, size_t count,
                           int64_t began_ms)
{
    struct control *c = arg;

    if (!parking_list(c->parking, all, count, began_ms))
        engine_list_soon(c->engine);
}

static void on_pull_progress(void *arg, const char *service, const char *words)
{
    KG_LOG(KG_LOG_INFO, "pull", KG_F("service", service), KG_F("progress", words));
    admin_event(((struct control *)arg)->admin, "pull", service, words);
}

static void on_image_news(void *arg, const struct images_news *n)
{
    static const char *const steps[] = {"pulling", "pulled", "failed"};
    struct control *c = arg;
    char detail[1024];

    KG_LOG(n->step == IMAGES_FAILED ? KG_LOG_WARN : KG_LOG_INFO, "image",
           KG_F("step", steps[n->step]), KG_F("service", n->service), KG_F("image", n->image),
           KG_F("why", n->words), KG_FN(n->step == IMAGES_FAILED ? "again_ms" : "ms", n->ms));
    if (n->step == IMAGES_FAILED)
        snprintf(detail, sizeof detail, "pulling %s failed: %s; again in %lld ms", n->image,
                 n->words, (long long)n->ms);
    else if (n->step == IMAGES_PULLED)
        snprintf(detail, sizeof detail, "pulled %s in %lld ms", n->image, (long long)n->ms);
    else
        snprintf(detail, sizeof detail, "pulling %s", n->image);
    admin_event(c->admin, "image", n->service, detail);
}

/* --- certificates -------------------------------------------------------------------------- */

struct faults {
    const struct config *config;
    struct kg_buf text;
};

static void on_bad_certificate(void *arg, size_t index, enum tls_part part, const char *words)
{
    struct faults *f = arg;

    kg_buf_printf(&f->text, "%s%s: %s", f->text.len > 0 ? "; " : "",
                  certificates_file(f->config, index, part), words);
}

/* Bad files are told once, not at each look at them. */
static void refuse_certificates(struct control *c, const struct faults *f)
{
    const char *words = f->text.data ? f->text.data : "";

    if (kg_str_eq(kg_buf_str(&c->faults), kg_buf_str(&f->text)))
        return;
    KG_LOG(KG_LOG_ERROR, "certificates-refused", KG_F("why", words),
           KG_F("then", "those before stay"));
    admin_event(c->admin, "certificates-refused", NULL, words);
    kg_buf_clear(&c->faults);
    kg_buf_puts(&c->faults, words);
}

/* Watches the files of TLS, then looks at them: names may lead elsewhere now, and what has changed
 * since they were read last is told by nobody. */
static void watch_files(void *arg)
{
    struct control *c = arg;
    struct faults faults = {.config = c->config};
    struct certificates *next;

    if (c->stage != CONTROL_SERVING)
        return;
    tls_keeper_watch(c->keeper, c->config);
    if (!c->config->loaded)
        return;
    if (certificates_unchanged(c->config->loaded, c->config)) {
        kg_buf_clear(&c->faults);
        return;
    }
    kg_buf_init(&faults.text, MAX_FAULTS_BYTES);
    next = certificates_load(c->config, c->config->loaded, on_bad_certificate, &faults);
    if (next) {
        certificates_unref(c->config->loaded);
        c->config->loaded = next;
        fronts_certify(c->fronts);
        KG_LOG(KG_LOG_INFO, "certificates-renewed");
        admin_event(c->admin, "certificates-renewed", NULL, "");
        kg_buf_clear(&c->faults);
    } else {
        refuse_certificates(c, &faults);
    }
    kg_buf_fini(&faults.text);
}

static void on_tickets(void *arg, const struct tls_ticket_key *keys, unsigned count)
{
    fronts_set_tickets(((struct control *)arg)->fronts, keys, count);
}

static int open_keeper(struct control *c, struct kg_err *err)
{
    const struct tls_keeper_params params = {&c->loop, c, watch_files, on_tickets};

    c->keeper = tls_keeper_open(&params);
    return c->keeper ? 0 : kg_fail(err, KG_ENOMEM, "out of memory");
}

/* --- configuration at run time ------------------------------------------------------------- */

/* Puts `next` (taken over) in force. New services are told to the fleet first, so that a front
 * never asks for one that control does not know. */
static int put_in_force(struct control *c, struct config *next, struct config_errors *errors)
{
    struct config *old = c->config;

    if (!config_may_replace(old, next, errors)) {
        config_free(next);
        return KG_EINVAL;
    }
    if (fleet_configure(c->fleet, next, kg_clock_mono_ms()) != 0) {
        config_free(next);
        kg_buf_puts(&errors->text, "out of memory\n");
        errors->count++;
        return KG_ENOMEM;
    }
    c->config = next;
    admin_configured(c->admin);
    state_save_services(&c->state, c->fleet);
    fronts_configure(c->fronts, next);
    images_configure(c->images, next);
    parking_configure(c->parking, next);
    engine_configure(c->engine, next);
    config_free(old);
    watch_files(c);
    KG_LOG(KG_LOG_INFO, "configured", KG_FN("services", (int64_t)next->service_count));
    admin_event(c->admin, "configured", NULL, "");
    return 0;
}

static int admin_apply(void *self, struct config *next, struct config_errors *errors)
{
    return put_in_force(self, next, errors);
}

static int admin_reload(void *self, struct config_errors *errors)
{
    struct control *c = self;
    struct config *next = config_load(c->argc, c->argv, c->config, errors);
    int rc = next ? put_in_force(c, next, errors) : KG_EINVAL;

    if (rc == 0)
        images_renew(c->images);
    return rc;
}

static void reload_by_signal(struct control *c)
{
    struct config_errors errors = {0};

    kg_buf_init(&errors.text, KG_MAX_CONFIG_BYTES);
    if (admin_reload(c, &errors) != 0)
        KG_LOG(KG_LOG_ERROR, "reload-refused", KG_F("errors", errors.text.data));
    config_errors_fini(&errors);
}

static const struct config *admin_config(void *self)
{
    return ((struct control *)self)->config;
}

static const struct proxy_stats *admin_stats(void *self, size_t front)
{
    return fronts_stats(((struct control *)self)->fronts, front);
}

static bool admin_listening(void *self)
{
    return fronts_listening(((struct control *)self)->fronts);
}

static bool admin_draining(void *self)
{
    return ((struct control *)self)->stage >= CONTROL_DRAINING;
}

static bool admin_reply(void *self, uint64_t request, const struct proxy_local_answer *a)
{
    return fronts_admin_reply(((struct control *)self)->fronts, request, a);
}

static void on_admin_request(void *arg, const struct admin_request *r)
{
    admin_request(((struct control *)arg)->admin, r, kg_clock_mono_ms());
}

static void on_admin_gone(void *arg, uint64_t request)
{
    admin_gone(((struct control *)arg)->admin, request);
}

/* --- time ---------------------------------------------------------------------------------- */

static void on_tick(uv_timer_t *t)
{
    struct control *c = t->data;
    int64_t now_ms = kg_clock_mono_ms();

    fleet_tick(c->fleet, now_ms);
    parking_tick(c->parking, now_ms);
    images_tick(c->images, now_ms);
}

static void before_sleep(uv_prepare_t *p)
{
    struct control *c = p->data;
    int64_t due_ms, now_ms = kg_clock_mono_ms();

    if (c->stage == CONTROL_CLOSING)
        return;
    fronts_tell_due(c->fronts);
    if (c->stage == CONTROL_SETTLING && fleet_empty(c->fleet))
        parking_clear(c->parking);
    if (c->stage == CONTROL_SETTLING && fleet_quiet(c->fleet) && parking_quiet(c->parking)) {
        control_close(c);
        return;
    }
    due_ms = kg_earliest(fleet_due_ms(c->fleet), images_due_ms(c->images));
    due_ms = kg_earliest(due_ms, parking_due_ms(c->parking));
    if (due_ms == KG_NEVER) {
        uv_timer_stop(&c->tick);
        return;
    }
    uv_update_time(&c->loop);
    uv_timer_start(&c->tick, on_tick, due_ms > now_ms ? (uint64_t)(due_ms - now_ms) : 0, 0);
}

static void on_old_fronts(uv_timer_t *t)
{
    struct control *c = t->data;

    if (state_old_fronts_live(&c->state))
        return;
    uv_timer_stop(t);
    KG_LOG(KG_LOG_INFO, "old-fronts-ended");
    fleet_hold_adopted(c->fleet, false, kg_clock_mono_ms());
}

/* --- the end ------------------------------------------------------------------------------- */

static void on_fronts_closed(void *arg)
{
    (void)arg; /* the loop ends by itself: nothing is open any more */
}

static void on_engine_closed(void *arg)
{
    struct control *c = arg;

    images_free(c->images);
    admin_free(c->admin);
    fleet_free(c->fleet);
    parking_free(c->parking);
    fronts_free(c->fronts, on_fronts_closed, c);
}

/* SIG_BLOCK: from `first` on they wait for SIG_UNBLOCK, across the start of another program; at the
 * end they wait for nothing. */
static void hold_signals(int how, size_t first)
{
    sigset_t held;

    sigemptyset(&held);
    for (size_t i = first; i < sizeof heard_signals / sizeof *heard_signals; i++)
        sigaddset(&held, heard_signals[i]);
    sigprocmask(how, &held, NULL);
}

static void control_close(struct control *c)
{
    uv_timer_t *timers[] = {&c->tick, &c->save, &c->old_fronts, &c->end};

    if (c->stage == CONTROL_CLOSING)
        return;
    c->stage = CONTROL_CLOSING;
    hold_signals(SIG_BLOCK, 0); /* it ends already: another one must not make it end by that */
    state_save(&c->state, c->fleet);
    state_save_habits(&c->state, c->fleet, true);
    for (size_t i = 0; i < sizeof timers / sizeof *timers; i++)
        uv_close((uv_handle_t *)timers[i], NULL);
    for (size_t i = 0; i < sizeof c->signals / sizeof *c->signals; i++)
        uv_close((uv_handle_t *)&c->signals[i], NULL);
    uv_close((uv_handle_t *)&c->prepare, NULL);
    if (c->state.owner_fd >= 0)
        uv_close((uv_handle_t *)&c->rivals, NULL);
    tls_keeper_close(c->keeper);
    successor_close(&c->successor);
    images_stop(c->images);
    engine_close(c->engine, on_engine_closed, c);
}

static void on_settled_late(uv_timer_t *t)
{
    KG_LOG(KG_LOG_WARN, "ended-early", KG_F("why", "the engine did not answer in time"));
    control_close(t->data);
}

static void on_all_ended(void *arg)
{
    struct control *c = arg;

    if (c->stage == CONTROL_CLOSING)
        return;
    if (c->at_once && !c->config->remove_on_exit) {
        control_close(c); /* what the engine is doing the next start finds */
        return;
    }
    c->stage = CONTROL_SETTLING; /* before_sleep sees when the fleet is quiet */
    fleet_stop(c->fleet, c->config->remove_on_exit, kg_clock_mono_ms());
    uv_timer_start(&c->end, on_settled_late, SETTLE_MS, 0);
}

static void on_drained_late(uv_timer_t *t)
{
    struct control *c = t->data;

    KG_LOG(KG_LOG_WARN, "drain-timeout", KG_F("then", "open exchanges are broken"));
    fronts_kill(c->fronts);
}

static void control_drain(struct control *c)
{
    KG_LOG(KG_LOG_INFO, "draining");
    c->stage = CONTROL_DRAINING;
    fleet_stop(c->fleet, false, kg_clock_mono_ms());
    images_stop(c->images);
    parking_stop(c->parking);
    listeners_close_public(&c->listeners); /* else new connections would wait for nobody */
    uv_timer_start(&c->end, on_drained_late, (uint64_t)c->config->drain_timeout_ms, 0);
    fronts_drain(c->fronts);
}

/* Another control in our place, of whatever the program's file is now: fronts go on, and attach to
 * it. What is open in us closes by itself. */
static void start_anew(void *arg, const char *program)
{
    struct control *c = arg;
    char path[SUCCESSOR_PATH_BYTES], serve[] = "serve",
                                     **args = calloc((size_t)c->argc + 3, sizeof *args);

    if (c->stage != CONTROL_SERVING || !args) {
        free(args);
        return;
    }
    kg_str_copy(path, sizeof path, kg_str_of(program));
    args[0] = path;
    args[1] = serve;
    memcpy(args + 2, c->argv, (size_t)c->argc * sizeof *args);
    hold_signals(SIG_BLOCK, 0); /* they would end it before it listens for them */
    KG_LOG(KG_LOG_INFO, "starting-anew");
    state_save(&c->state, c->fleet);
    state_save_habits(&c->state, c->fleet, true);
    confine_close_on_exec();
    listen_pass_on(true); /* fronts bring them, too; but they may be of no use to it */
    execv(path, args);
    listen_pass_on(false);
    successor_refused(&c->successor, strerror(errno));
    free(args);
    hold_signals(SIG_UNBLOCK, 0);
}

/* It was said twice. */
static void end_at_once(struct control *c)
{
    c->at_once = true;
    fronts_kill(c->fronts);
}

static void on_signal(uv_signal_t *s, int number)
{
    struct control *c = s->data;

    if (number == SIGUSR2) {
        if (c->stage == CONTROL_SERVING)
            successor_ask(&c->successor, &c->loop, c->argc, c->argv, start_anew, c);
        return;
    }
    if (number == SIGHUP && c->stage == CONTROL_SERVING)
        reload_by_signal(c);
    else if (number != SIGHUP && c->stage == CONTROL_SERVING)
        control_drain(c);
    else if (number != SIGHUP && c->stage == CONTROL_DRAINING)
        end_at_once(c);
    else if (number != SIGHUP && c->stage == CONTROL_SETTLING)
        control_close(c);
}

/* --- the beginning ------------------------------------------------------------------------- */

/* Those who would have our owner are told who has it, and wait for no more. */
static void on_rival(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    state_turn_away(&((struct control *)poll->data)->state);
}

static int watch_rivals(struct control *c)
{
    int rc;

    if (c->state.owner_fd < 0)
        return 0;
    rc = uv_poll_init(&c->loop, &c->rivals, c->state.owner_fd);
    c->rivals.data = c;
    return rc ? rc : uv_poll_start(&c->rivals, UV_READABLE, on_rival);
}

static int open_loop(struct control *c)
{
    uv_timer_t *timers[] = {&c->tick, &c->save, &c->old_fronts, &c->end};
    int rc = uv_loop_init(&c->loop);

    if (rc == 0)
        rc = kg_loop_reserve(&c->loop, WATCHED_AHEAD);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < sizeof timers / sizeof *timers; i++) {
        uv_timer_init(&c->loop, timers[i]);
        timers[i]->data = c;
    }
    for (size_t i = 0; i < sizeof heard_signals / sizeof *heard_signals; i++) {
        uv_signal_init(&c->loop, &c->signals[i]);
        c->signals[i].data = c;
        rc |= uv_signal_start(&c->signals[i], on_signal, heard_signals[i]);
    }
    hold_signals(SIG_UNBLOCK, 0);
    rc |= watch_rivals(c);
    uv_prepare_init(&c->loop, &c->prepare);
    c->prepare.data = c;
    return rc | uv_prepare_start(&c->prepare, before_sleep);
}

static int open_fronts(struct control *c, struct kg_err *err)
{
    struct fronts_params params = {.loop = &c->loop,
                                   .config = c->config,
                                   .state = &c->state,
                                   .listeners = &c->listeners,
                                   .access_log_fd = c->access_log_fd,
                                   .stderr_fd = c->given_stderr,
                                   .arg = c,
                                   .admin_request = on_admin_request,
                                   .admin_gone = on_admin_gone,
                                   .all_ended = on_all_ended};

    c->fronts = fronts_new(&params, err);
    return err->code;
}

/* The fleet's engine: workers join parked networks behind it. */
static const struct engine_ops *open_parking(struct control *c)
{
    const struct parking_params params = {.engine = engine_ops(c->engine),
                                          .sandboxes = engine_parking_ops(c->engine),
                                          .owner = c->state.owner,
                                          .arg = c,
                                          .on_event = on_parking_event,
                                          .on_list = on_parking_list};

    c->parking = parking_new(&params);
    return c->parking ? parking_ops(c->parking) : NULL;
}

static int open_fleet(struct control *c, struct kg_err *err)
{
    const struct engine_callbacks callbacks = {c, on_engine_state, on_engine_event, on_engine_list,
                                               on_pull_progress};
    struct fleet_params params = {.fronts = fronts_door(c->fronts),
                                  .observer = {.self = c,
                                               .changed = on_changed,
                                               .cold_start = on_cold_start,
                                               .reaped = on_reaped,
                                               .resumed = on_resumed,
                                               .clock_changed = on_clock_changed,
                                               .ending = on_ending},
                                  .owner = c->state.owner,
                                  .max_starts = c->config->max_starts};
    struct images_params images = {.on_news = on_image_news, .arg = c};
    char seed[17];

    digest_random_hex(seed, 16);
    params.seed = strtoull(seed, NULL, 16);
    params.numbers = (uint64_t)kg_clock_wall_ms() << NUMBERS_SHIFT;
    c->engine = engine_open(&c->loop, c->config, c->state.owner, c->state.key, &callbacks, err);
    if (!c->engine)
        return err->code;
    params.engine = open_parking(c);
    if (!params.engine)
        return kg_fail(err, KG_ENOMEM, "out of memory");
    images.engine = engine_ops(c->engine);
    c->images = images_new(&images);
    c->fleet = fleet_new(&params, kg_clock_mono_ms());
    if (!c->fleet || !c->images)
        return kg_fail(err, KG_ENOMEM, "out of memory");
    fronts_set_fleet(c->fronts, c->fleet);
    return 0;
}

static int open_admin(struct control *c, struct kg_err *err)
{
    const struct admin_params params = {.self = c,
                                        .parking = c->parking,
                                        .fleet = c->fleet,
                                        .engine = c->engine,
                                        .config = admin_config,
                                        .reload = admin_reload,
                                        .apply = admin_apply,
                                        .stats = admin_stats,
                                        .listening = admin_listening,
                                        .draining = admin_draining,
                                        .reply = admin_reply};

    if (config_admin_is_exposed(c->config))
        KG_LOG(KG_LOG_WARN, "admin-exposed", KG_F("admin", c->config->admin),
               KG_F("why", "workers and others may reach it, and it asks nobody who they are"));
    c->admin = admin_new(&params);
    return c->admin ? 0 : kg_fail(err, KG_ENOMEM, "out of memory");
}

/* Fronts of a run that was killed may still use what we adopt: it is held until they are gone. */
static void hold_for_old_fronts(struct control *c)
{
    if (!state_old_fronts_live(&c->state))
        return;
    KG_LOG(KG_LOG_INFO, "old-fronts-live", KG_F("then", "adopted instances are held"));
    fleet_hold_adopted(c->fleet, true, kg_clock_mono_ms());
    uv_timer_start(&c->old_fronts, on_old_fronts, OLD_FRONTS_LOOK_MS, OLD_FRONTS_LOOK_MS);
}

static int control_open(struct control *c, struct kg_err *err)
{
    int rc = state_open(&c->state, c->config->state_dir, c->config->owner, err);

    if (rc == 0)
        rc = state_claim_owner(&c->state, c->config->engine, err);
    if (rc == 0)
        rc = listeners_open(&c->listeners, c->config, &c->state, err);
    if (rc == 0) {
        c->access_log_fd = logs_open_access(c->config->access_log, err);
        rc = err->code;
    }
    if (rc == 0 && open_loop(c) != 0)
        rc = kg_fail(err, KG_EIO, "event loop: %s", strerror(errno));
    if (rc == 0)
        rc = open_fronts(c, err);
    if (rc == 0)
        rc = open_fleet(c, err);
    if (rc == 0)
        rc = open_admin(c, err);
    if (rc == 0)
        rc = open_keeper(c, err);
    if (rc == 0)
        state_recall_services(&c->state, c->fleet);
    if (rc == 0)
        rc = fleet_configure(c->fleet, c->config, kg_clock_mono_ms());
    if (rc != 0)
        return kg_fail(err, rc, "out of memory");
    admin_configured(c->admin);
    state_save_services(&c->state, c->fleet);
    images_configure(c->images, c->config);
    parking_configure(c->parking, c->config);
    engine_configure(c->engine, c->config);
    state_recall(&c->state, c->fleet);
    state_recall_habits(&c->state, c->fleet);
    hold_for_old_fronts(c);
    c->stage = CONTROL_SERVING;
    watch_files(c);
    fronts_start(c->fronts);
    return 0;
}

static void control_fini(struct control *c)
{
    uv_loop_close(&c->loop);
    listeners_close(&c->listeners);
    if (c->access_log_fd >= 0)
        close(c->access_log_fd);
    if (c->given_stderr >= 0)
        close(c->given_stderr);
    state_close(&c->state);
    kg_buf_fini(&c->faults);
    config_free(c->config);
    free(c);
}

int control_run(int argc, char **argv)
{
    struct config_errors errors = {0};
    struct control *c = calloc(1, sizeof *c);
    struct kg_err err = {0};

    signal(SIGPIPE, SIG_IGN);
    hold_signals(SIG_BLOCK, ENDING_SIGNALS); /* until they are listened for: they would end us */
    confine_memory();
    kg_loop_end_exhausted();
    kg_buf_init(&errors.text, KG_MAX_CONFIG_BYTES);
    if (!c || !(c->config = config_load(argc, argv, NULL, &errors))) {
        fputs(errors.text.data ? errors.text.data : "out of memory\n", stderr);
        config_errors_fini(&errors);
        free(c);
        return EXIT_CONFIGURATION;
    }
    config_errors_fini(&errors);
    kg_buf_init(&c->faults, MAX_FAULTS_BYTES);
    c->argc = argc;
    c->argv = argv;
    c->given_stderr = logs_take_standard_error();
    kg_log_setup(c->config->log_level, c->config->log_format, "control");
    kg_loop_raise_descriptors();
    if (control_open(c, &err) != 0) {
        if (c->config->log_format == KG_LOG_JSON) /* whoever reads its lines reads this one, too */
            KG_LOG(KG_LOG_ERROR, "not-started", KG_F("why", err.words));
        else
            fprintf(stderr, "kipgate: %s\n", err.words);
        _exit(1); /* nothing was started that would need an orderly end */
    }
    uv_run(&c->loop, UV_RUN_DEFAULT);
    control_fini(c);
    return 0;
}
