/* SPDX-License-Identifier: Apache-2.0 */
/* Asks the program's file whether it takes the configuration. The difficulty: only it can say so,
 * for it may know other keys than we do. */
#include "orchestrator/successor.h"
#include "base/log.h"
#include "orchestrator/confine.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MS 10000 /* it reads files, and no more; whoever waits on one for ever is ended */

void successor_refused(const struct successor *s, const char *why)
{
    KG_LOG(KG_LOG_ERROR, "not-started-anew", KG_F("program", s->program), KG_F("why", why));
}

/* The kernel marks the path of a file that was replaced. */
static int find_program(struct successor *s)
{
    static const char mark[] = " (deleted)";
    size_t n = sizeof s->program;
    int rc = uv_exepath(s->program, &n);

    if (rc != 0)
        return rc;
    n = strlen(s->program);
    if (n >= sizeof mark && strcmp(s->program + n - (sizeof mark - 1), mark) == 0)
        s->program[n - (sizeof mark - 1)] = '\0';
    return access(s->program, X_OK) == 0 ? 0 : uv_translate_sys_error(errno);
}

static void on_closed(uv_handle_t *h)
{
    ((struct successor *)h->data)->handles--;
}

static void close_handles(struct successor *s)
{
    uv_close((uv_handle_t *)&s->process, on_closed);
    uv_close((uv_handle_t *)&s->late, on_closed);
}

static void on_answer(uv_process_t *process, int64_t status, int signal_number)
{
    struct successor *s = process->data;

    close_handles(s);
    if (!s->accepted)
        return;
    if (status == 0 && signal_number == 0)
        s->accepted(s->arg, s->program);
    else
        successor_refused(s, "it does not take the configuration: \"kipgate check\" tells more");
}

/* Its end is seen by on_answer, which then has nothing to say. */
static void on_late(uv_timer_t *t)
{
    struct successor *s = t->data;

    successor_refused(s, "\"kipgate check\" did not answer within 10 s");
    s->accepted = NULL;
    uv_process_kill(&s->process, SIGKILL);
}

static int spawn(struct successor *s, uv_loop_t *loop, char **args)
{
    uv_stdio_container_t nothing[] = {
        {.flags = UV_IGNORE}, {.flags = UV_IGNORE}, {.flags = UV_IGNORE}};
    const uv_process_options_t options = {.exit_cb = on_answer,
                                          .file = s->program,
                                          .args = args,
                                          .stdio = nothing,
                                          .stdio_count = sizeof nothing / sizeof *nothing};
    int rc;

    confine_close_on_exec();
    rc = uv_spawn(loop, &s->process, &options);
    uv_timer_init(loop, &s->late);
    s->process.data = s->late.data = s;
    s->handles = 2;
    if (rc == 0)
        uv_timer_start(&s->late, on_late, ANSWER_MS, 0);
    else
        close_handles(s); /* the process's, too */
    return rc;
}

void successor_ask(struct successor *s, uv_loop_t *loop, int argc, char **argv,
                   void (*accepted)(void *arg, const char *program), void *arg)
{
    char check[] = "check", **args;
    int rc;

    if (s->handles > 0)
        return;
    s->accepted = accepted;
    s->arg = arg;
    rc = find_program(s);
    args = rc == 0 ? calloc((size_t)argc + 3, sizeof *args) : NULL;
    if (args) {
        args[0] = s->program;
        args[1] = check;
        memcpy(args + 2, argv, (size_t)argc * sizeof *args);
        rc = spawn(s, loop, args);
    } else if (rc == 0) {
        rc = UV_ENOMEM;
    }
    free(args);
    if (rc != 0)
        successor_refused(s, uv_strerror(rc));
}

void successor_close(struct successor *s)
{
    s->accepted = NULL;
    if (s->handles > 0 && !uv_is_closing((uv_handle_t *)&s->process))
        uv_process_kill(&s->process, SIGKILL);
}
