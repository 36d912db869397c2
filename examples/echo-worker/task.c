/* SPDX-License-Identifier: Apache-2.0 */
/* The difficulty: events are edge-triggered and told once, so one that comes while its task does
 * something else is remembered; every wait is thus preceded by a try. */
#include "task.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { STACK_BYTES = 64 * 1024, EVENTS = 256, BREATH = 64 };

struct task {
    ucontext_t context;
    void *stack;
    task_body *body;
    void *arg;
    int fd;
    bool queued, waiting;         /* waiting: an event may wake it */
    bool event, hung_up;          /* not yet told; for good */
    int64_t wake_ms;              /* < 0: no time set */
    struct task *next;            /* in the run queue or the list of free ones */
    struct task *earlier, *later; /* in the list of times */
};

static int epoll_fd;
static ucontext_t loop_context;
static struct task *self;
static struct task *run_first, **run_end = &run_first;
static struct task *free_tasks;
static struct task times = {.earlier = &times, .later = &times};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

void task_init(void)
{
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        die("epoll");
}

int64_t task_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* --- the run queue and the times --- */

static void enqueue(struct task *t)
{
    if (t->queued)
        return;
    t->queued = true;
    t->next = NULL;
    *run_end = t;
    run_end = &t->next;
}

static void clear_time(struct task *t)
{
    if (t->wake_ms < 0)
        return;
    t->earlier->later = t->later;
    t->later->earlier = t->earlier;
    t->wake_ms = -1;
}

/* Sorted; most new times are the latest of all. */
static void set_time(struct task *t, int64_t ms)
{
    struct task *before = times.earlier;

    t->wake_ms = task_now_ms() + ms;
    while (before != &times && before->wake_ms > t->wake_ms)
        before = before->earlier;
    t->earlier = before;
    t->later = before->later;
    before->later->earlier = t;
    before->later = t;
}

static void wake_due(void)
{
    int64_t now = task_now_ms();

    while (times.later != &times && times.later->wake_ms <= now) {
        struct task *t = times.later;

        clear_time(t);
        enqueue(t);
    }
}

/* --- tasks --- */

static void finish(struct task *t)
{
    clear_time(t);
    close(t->fd);
    t->next = free_tasks;
    free_tasks = t;
}

static void enter(void)
{
    self->body(self->arg);
    self->body = NULL; /* done: the loop finishes it */
    setcontext(&loop_context);
}

static void prepare(ucontext_t *context, void *stack)
{
    getcontext(context);
    context->uc_stack.ss_sp = stack;
    context->uc_stack.ss_size = STACK_BYTES;
    context->uc_link = NULL;
    makecontext(context, enter, 0);
}

static struct task *new_task(void)
{
    struct task *t = free_tasks;

    if (t) {
        free_tasks = t->next;
        return t;
    }
    t = malloc(sizeof *t);
    if (!t)
        return NULL;
    t->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (t->stack == MAP_FAILED) {
        free(t);
        return NULL;
    }
    mprotect(t->stack, 4096, PROT_NONE); /* its end */
    return t;
}

bool task_spawn(int fd, task_body *body, void *arg)
{
    struct epoll_event interest = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
    struct task *t = new_task();

    if (!t)
        return false;
    interest.data.ptr = t;
    t->body = body;
    t->arg = arg;
    t->fd = fd;
    t->queued = t->waiting = t->event = t->hung_up = false;
    t->wake_ms = -1;
    prepare(&t->context, t->stack);
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &interest) < 0) {
        t->next = free_tasks;
        free_tasks = t;
        return false;
    }
    enqueue(t);
    return true;
}

static void leave(void)
{
    swapcontext(&self->context, &loop_context);
}

void task_sleep_ms(int64_t ms)
{
    set_time(self, ms);
    leave();
}

bool task_wait(int64_t ms)
{
    bool told;

    if (!self->event) {
        if (ms >= 0)
            set_time(self, ms);
        self->waiting = true;
        leave();
        self->waiting = false;
        clear_time(self);
    }
    told = self->event;
    self->event = false;
    return told;
}

bool task_hung_up(void)
{
    return self->hung_up;
}

void task_breathe(void)
{
    static unsigned count;

    if (++count % BREATH)
        return;
    enqueue(self);
    leave();
}

/* --- the loop --- */

static void run_queued(void)
{
    struct task *t = run_first;

    run_first = NULL; /* those that are queued meanwhile: next time */
    run_end = &run_first;
    while (t) {
        struct task *next = t->next;

        t->queued = false;
        self = t;
        swapcontext(&loop_context, &t->context);
        if (!t->body)
            finish(t);
        t = next;
    }
    self = NULL;
}

static int time_left(void)
{
    int64_t left;

    if (run_first)
        return 0;
    if (times.later == &times)
        return -1;
    left = times.later->wake_ms - task_now_ms();
    return left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

void task_loop(void)
{
    struct epoll_event events[EVENTS];

    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS, time_left());

        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++) {
            struct task *t = events[i].data.ptr;

            t->event = true;
            t->hung_up |= (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
            if (t->waiting)
                enqueue(t);
        }
        wake_due();
        run_queued();
    }
}
