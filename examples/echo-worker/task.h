/* SPDX-License-Identifier: Apache-2.0 */
/* Coroutines over epoll: each connection is a task written as if it blocked, all on one thread. */
#ifndef ECHO_TASK_H
#define ECHO_TASK_H

#include <stdbool.h>
#include <stdint.h>

typedef void task_body(void *arg);

void task_init(void); /* ends the program when there is no epoll */
/* A task that owns this descriptor (nonblocking); it begins at the loop's next turn and its
 * descriptor is closed when body returns. False: no memory, and nothing was taken. */
bool task_spawn(int fd, task_body *body, void *arg);
void task_loop(void); /* never returns */

int64_t task_now_ms(void); /* monotonic */
/* For the running task. */
void task_sleep_ms(int64_t ms);
/* Until something happens on the descriptor (true; try again, it may be in vain) or ms have passed
 * (false); ms < 0: no limit. */
bool task_wait(int64_t ms);
bool task_hung_up(void); /* the peer has sent its last byte, or reset */
void task_breathe(void); /* lets the others run once in a while; cheap */

#endif
