/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the program's file, whatever it is now, would start in our place. The difficulty: once it
 * has replaced us there is no way back, so it is asked before. */
#ifndef KG_ORCHESTRATOR_SUCCESSOR_H
#define KG_ORCHESTRATOR_SUCCESSOR_H

#include <stdbool.h>
#include <uv.h>

#define SUCCESSOR_PATH_BYTES 512

struct successor {
    uv_process_t process;
    uv_timer_t late;  /* it has not answered in time */
    unsigned handles; /* of these two, not yet closed; 0: nobody is asked */
    char program[SUCCESSOR_PATH_BYTES];
    void (*accepted)(void *arg, const char *program);
    void *arg;
};

/* Runs the program's file as "check" with these options, of which it keeps nothing. When it takes
 * the configuration, `accepted` is called from the loop with its path, which lives as long as s;
 * else, and when it has not answered within 10 s, the log says why not. Does nothing while it is
 * asked already. */
void successor_ask(struct successor *s, uv_loop_t *loop, int argc, char **argv,
                   void (*accepted)(void *arg, const char *program), void *arg);

/* Says in the log why the program that runs goes on. */
void successor_refused(const struct successor *s, const char *why);

/* Whoever is asked is ended; `accepted` is not called any more. The loop must go on until it ends.
 */
void successor_close(struct successor *s);

#endif
