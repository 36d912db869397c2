/* SPDX-License-Identifier: Apache-2.0 */
/* What the two halves of the fronts' keeper share: processes (fronts.c), messages (fronts_talk.c).
 * The difficulty: a session ends when its process does, but both are told of at different times. */
#ifndef ORCHESTRATOR_FRONTS_PRIV_H
#define ORCHESTRATOR_FRONTS_PRIV_H

#include "base/channel.h"
#include "orchestrator/fronts.h"
#include "orchestrator/messages.h"

struct front_session {
    struct fronts *fronts;
    int index;
    uint32_t run; /* how many processes this place has had */
    uv_process_t process;
    uv_timer_t timer; /* starts the next one after a pause; ends one that hangs at its start */
    int ticks;        /* of that deadline, until it is over */
    struct kg_channel *channel;
    struct proxy_stats *stats;
    int stats_fd, door_fd; /* door: where the front accepts the control after us; -1: none */
    bool alive, ready;
    bool config_due; /* it changed, and is told when less waits to be read */
    bool attached;   /* a front of an earlier control: `pid_fd` stands for it, not `process` */
    int pid_fd;
    pid_t pid;
    int64_t ready_ms, pause_ms; /* ready: KG_NEVER until it says so */
    uint64_t last_ticket;
    struct kg_buf body;                 /* of an admin request that is being told */
    struct message_admin_request admin; /* its head; request 0: none */
};

struct fronts {
    struct fronts_params params;
    const struct config *config;
    struct fleet *fleet;
    char root[256]; /* fronts are confined to it; "" where they cannot be */
    char program[512];
    struct message_tls_tickets tickets; /* as each is told; of no count: there are none */
    bool ending, told_ended;
    int open_handles;
    void (*on_closed)(void *arg);
    void *closed_arg;
    size_t count;
    struct front_session sessions[];
};

/* fronts_talk.c */
void fronts_send(struct front_session *s, const void *message);
void fronts_on_message(void *arg, const void *bytes, size_t n); /* arg: the session */
void fronts_tell_setup(struct front_session *s);
void fronts_tell_config(struct front_session *s);
void fronts_tell_tls(struct front_session *s); /* certificates and tickets, if there are any */
/* fronts.c: this front broke the rules: it is ended, and started again. */
void fronts_distrust(struct front_session *s, const char *why);

#endif
