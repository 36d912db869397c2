/* SPDX-License-Identifier: Apache-2.0 */
/* Files of the state directory as a killed run, or a person, may have left them: the clocks, or
 * what was learnt. What is read of them and written again is read as the same. The difficulty: the
 * first line of the clocks names this boot, which no input can know. */
#include "fleet_case.h"
#include "orchestrator/state.h"
#include <fcntl.h>
#include <unistd.h>

static char directory[] = "/tmp/kgf.XXXXXX", boot[64];
static struct config config;
static struct config_service service, *service_list[1];

static void write_file(const char *name, struct kg_str head, struct kg_str text)
{
    char path[128];
    int fd;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    KG_ASSERT(fd >= 0 && write(fd, head.p, head.n) == (ssize_t)head.n);
    KG_ASSERT(write(fd, text.p, text.n) == (ssize_t)text.n);
    close(fd);
}

static void read_file(const char *name, struct kg_buf *out)
{
    char path[128], piece[4096];
    ssize_t n;
    int fd;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && (n = read(fd, piece, sizeof piece)) > 0)
        kg_buf_append(out, piece, (size_t)n);
    close(fd);
}

static void no_change(void *self, const struct fleet_change *c)
{
    (void)self, (void)c;
}
static void no_cold_start(void *self, uint32_t id, bool success, const char *result,
                          const int64_t phase_ms[FLEET_PHASES])
{
    (void)self, (void)id, (void)success, (void)result, (void)phase_ms;
}
static void no_reaped(void *self, uint32_t id, const char *action)
{
    (void)self, (void)id, (void)action;
}
static void no_resumed(void *self, uint32_t id)
{
    (void)self, (void)id;
}
static void no_clock(void *self)
{
    (void)self;
}

static void no_instance(void *self, int front, uint64_t instance)
{
    (void)self, (void)front, (void)instance;
}
static void no_probe(void *self, int front, uint64_t instance, const struct config_service *s,
                     const struct engine_container *where)
{
    (void)self, (void)front, (void)instance, (void)s, (void)where;
}

static struct fleet *fleet(const struct engine_ops *ops)
{
    const struct fleet_params params = {
        .engine = ops,
        .fronts = {.recall = no_instance,
                   .probe = no_probe,
                   .probe_stop = no_instance,
                   .gone = no_instance},
        .observer = {NULL, no_change, no_cold_start, no_reaped, no_resumed, no_clock, NULL},
        .owner = OWNER,
        .max_starts = 2,
        .seed = 42,
        .wall_ms = clock_of_case};
    struct fleet *f = fleet_new(&params, fuzz_now_ms);

    KG_ASSERT(f && fleet_configure(f, &config, fuzz_now_ms) == 0);
    return f;
}

/* Recalls, saves, recalls that, saves: twice the same file. */
static void around(const char *name, void (*recall)(const struct state *, struct fleet *),
                   void (*save)(struct state *, struct fleet *))
{
    const struct engine_ops ops = fake_engine();
    struct kg_buf files[2];
    struct state s = {.lock_fd = -1};

    snprintf(s.dir, sizeof s.dir, "%s", directory);
    for (int i = 0; i < 2; i++) {
        struct fleet *f = fleet(&ops);
        kg_buf_init(&files[i], SIZE_MAX);
        recall(&s, f);
        fleet_check(f);
        save(&s, f);
        read_file(name, &files[i]);
        fleet_free(f);
    }
    KG_ASSERT(kg_str_eq(kg_buf_str(&files[0]), kg_buf_str(&files[1])));
    kg_buf_fini(&files[0]);
    kg_buf_fini(&files[1]);
}

/* Two of ours run, and time passes for them. */
static void save_clocks(struct state *s, struct fleet *f)
{
    struct engine_container all[2];

    fill_container(&all[0], "kipgate-a-0000000001", ENGINE_RUNNING);
    fill_container(&all[1], "kipgate-a-0000000002", ENGINE_RUNNING);
    fleet_engine_state(f, true, "up", fuzz_now_ms);
    fleet_engine_list(f, all, 2, fuzz_now_ms, fuzz_now_ms);
    fleet_check(f);
    for (int i = 0; i < 10 && fleet_due_ms(f) <= fuzz_now_ms + 100; i++) {
        fleet_tick(f, fuzz_now_ms);
        fleet_check(f);
    }
    state_save(s, f);
}

/* Without the times, which are the real clock's. */
static void add_habit(void *arg, const char *name, int64_t idle_ms, struct kg_str habit)
{
    KG_ASSERT(idle_ms >= 0);
    kg_buf_printf(arg, "%s 1700000000000 %.*s\n", name[0] ? name : "*", (int)habit.n, habit.p);
}

static void save_habits(struct state *s, struct fleet *f)
{
    struct kg_buf out;

    (void)s;
    kg_buf_init(&out, SIZE_MAX);
    fleet_each_habit(f, fuzz_now_ms, add_habit, &out);
    write_file("habits", KG_STR(""), kg_buf_str(&out));
    kg_buf_fini(&out);
}

static void clean_up(void)
{
    char path[128];

    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, i ? "habits" : "clocks");
        unlink(path);
    }
    rmdir(directory);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, boot, sizeof boot - 1) : 0;

    (void)argc;
    (void)argv;
    KG_ASSERT(n > 0 && mkdtemp(directory));
    close(fd);
    atexit(clean_up);
    kg_log_setup((enum kg_log_level)(KG_LOG_ERROR + 1), KG_LOG_TEXT, "fuzz");
    fill_service(&service, "a");
    service.idle_auto = true;
    service.idle_max_ms = 3600000;
    service.idle_goal = 0.5;
    service_list[0] = &service;
    config = (struct config){
        .services = service_list, .service_count = 1, .paused_memory_bytes = -1, .fronts = 1};
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz f = {data, n};
    uint8_t how = fuzz_byte(&f);

    if (how & 1) {
        write_file("habits", KG_STR(""), fuzz_rest(&f));
        around("habits", state_recall_habits, save_habits);
    } else {
        write_file("clocks", how & 2 ? KG_STR("") : kg_str_of(boot), fuzz_rest(&f));
        around("clocks", state_recall, save_clocks);
    }
    return 0;
}
