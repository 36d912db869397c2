/* SPDX-License-Identifier: Apache-2.0 */
/* A front's side of the leases: slots at hand, requests that wait, what is told to control.
 * The difficulty: messages cross. Slots are therefore only ever added and subtracted, and a ticket
 * that is no longer waiting makes its slot a free one. */
#ifndef ORCHESTRATOR_GATE_CLIENT_H
#define ORCHESTRATOR_GATE_CLIENT_H

#include "base/channel.h"
#include "base/wheel.h"
#include "orchestrator/messages.h"

struct gate_client;

/* One per front process; `send` is how control is reached. NULL: no memory. */
struct gate_client *gate_client_new(uv_loop_t *loop, void (*send)(void *arg, const void *message),
                                    void *arg);
/* After proxy_close finished: no waiter may be left. Closes its timers, then calls on_closed. */
/* Those that are to be tried again: the proxy is going to close. */
void gate_client_forget_probes(struct gate_client *g);
void gate_client_close(struct gate_client *g, void (*on_closed)(void *arg), void *arg);
/* The door to hand to proxy_open; then the proxy it serves. */
struct proxy_gate gate_client_door(struct gate_client *g);
void gate_client_set_proxy(struct gate_client *g, struct proxy *p);

/* A checked GRANT, REFUSE, RECALL, PROBE, PROBE_STOP or GONE. */
void gate_client_message(struct gate_client *g, const struct message_head *head);
/* Control is gone: what waits is refused as draining, what is warm goes on. */
void gate_client_control_lost(struct gate_client *g);
/* Control is gone, and another one may come: what is held goes on serving, who waits waits on. */
void gate_client_control_away(struct gate_client *g);
/* It has come, and messages reach it: tells it what is held and who waits. */
void gate_client_attached(struct gate_client *g);

#endif
