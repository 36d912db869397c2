/* SPDX-License-Identifier: Apache-2.0 */
/* What outlives a run, in a directory of this test's own, with a fleet that only takes notes.
 * The difficulty: the files must be found as a killed run, or a person, may have left them. */
#include "base/clock.h"
#include "orchestrator/state.h"
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char dir[64], file[128];
static struct state s;
static struct kg_err err;

/* A file system may have no locks, or none left. */
static int no_lock;

int flock(int fd, int how)
{
    errno = no_lock;
    return no_lock ? -1 : (int)syscall(SYS_flock, fd, how);
}

/* --- the fleet --- */

struct clock_line {
    char name[ENGINE_NAME_BYTES];
    int64_t used_ms;
    bool in_use;
};
struct habit_line {
    char service[KG_MAX_NAME_BYTES + 1], habit[64];
    int64_t idle_ms;
};
struct fleet {
    struct clock_line clocks[8];
    size_t count;
    struct habit_line habits[8];
    size_t habit_count;
    bool learnt;
};

int fleet_remember(struct fleet *f, const char *name, int64_t used_ms)
{
    ck_assert_uint_lt(f->count, 8);
    snprintf(f->clocks[f->count].name, sizeof f->clocks[0].name, "%s", name);
    f->clocks[f->count++].used_ms = used_ms;
    return 0;
}

void fleet_each_clock(const struct fleet *f,
                      void (*each)(void *arg, const char *name, int64_t used_ms, bool in_use),
                      void *arg)
{
    for (size_t i = 0; i < f->count; i++)
        each(arg, f->clocks[i].name, f->clocks[i].used_ms, f->clocks[i].in_use);
}

void fleet_each_habit(const struct fleet *f, int64_t now_ms,
                      void (*each)(void *arg, const char *service, int64_t idle_ms,
                                   struct kg_str habit),
                      void *arg)
{
    ck_assert_int_gt(now_ms, 0);
    for (size_t i = 0; i < f->habit_count; i++)
        each(arg, f->habits[i].service, f->habits[i].idle_ms, kg_str_of(f->habits[i].habit));
}

bool fleet_habits_changed(struct fleet *f)
{
    bool learnt = f->learnt;

    f->learnt = false;
    return learnt;
}

int fleet_recall_habit(struct fleet *f, const char *service, int64_t idle_ms, struct kg_str habit)
{
    struct habit_line *h = &f->habits[f->habit_count++];

    ck_assert_uint_le(f->habit_count, 8);
    snprintf(h->service, sizeof h->service, "%s", service);
    ck_assert(kg_str_copy(h->habit, sizeof h->habit, habit));
    h->idle_ms = idle_ms;
    return 0;
}

static struct {
    char name[16];
    uint32_t id;
} numbered[4];
static size_t numbered_count;

int fleet_reserve_service(struct fleet *f, const char *name, uint32_t id)
{
    (void)f;
    ck_assert_uint_lt(numbered_count, 4);
    snprintf(numbered[numbered_count].name, sizeof numbered[0].name, "%s", name);
    numbered[numbered_count++].id = id;
    return 0;
}

void fleet_each_service(const struct fleet *f,
                        void (*each)(void *arg, const char *name, uint32_t id), void *arg)
{
    (void)f;
    each(arg, "pdf", 0);
    each(arg, "thumbnails", 4095);
}

/* --- the directory --- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void set_up(void)
{
    char made[] = "/tmp/kipgate-state-XXXXXX";

    ck_assert_ptr_nonnull(mkdtemp(made));
    snprintf(dir, sizeof dir, "%s/a/b", made);
    err = (struct kg_err){0};
}

static void tear_down(void)
{
    state_close(&s);
    dir[strlen(dir) - strlen("/a/b")] = '\0';
    ck_assert_int_eq(nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static const char *in_dir(const char *name)
{
    snprintf(file, sizeof file, "%s/%s", dir, name);
    return file;
}

static void write_file(const char *name, const char *text)
{
    FILE *f = fopen(in_dir(name), "we");

    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(text, f), 0);
    ck_assert_int_eq(fclose(f), 0);
}

static void read_file(const char *name, char *out, size_t cap)
{
    FILE *f = fopen(in_dir(name), "re");
    size_t n;

    ck_assert_ptr_nonnull(f);
    n = fread(out, 1, cap - 1, f);
    out[n] = '\0';
    fclose(f);
}

static void open_state(const char *owner)
{
    ck_assert_msg(state_open(&s, dir, owner, &err) == 0, "%s", err.words);
}

static size_t fronts_locks(void)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    size_t n = 0;

    while ((e = readdir(d)) != NULL)
        n += strncmp(e->d_name, "fronts-", 7) == 0;
    closedir(d);
    return n;
}

/* --- who we are --- */

START_TEST(test_the_owner_is_made_once_and_kept)
{
    char first[STATE_OWNER_BYTES];

    open_state(NULL);
    memcpy(first, s.owner, sizeof first);
    ck_assert_uint_eq(strlen(first), 32);
    state_close(&s);
    open_state(NULL);
    ck_assert_str_eq(s.owner, first);
}
END_TEST

START_TEST(test_a_given_owner_is_not_saved)
{
    open_state("mine");
    ck_assert_str_eq(s.owner, "mine");
    ck_assert_int_ne(access(in_dir("owner"), F_OK), 0);
    state_close(&s);
    ck_assert_int_eq(state_open(&s, dir, "not mine", &err), KG_EINVAL);
    err = (struct kg_err){0};
    ck_assert_int_eq(state_open(&s, dir, "", &err), KG_EINVAL);
}
END_TEST

START_TEST(test_an_owner_file_that_says_nothing_is_not_replaced)
{
    static const char *const texts[] = {
        "", "two words\n", "\n",
        "a-line-that-is-longer-than-an-owner-id-may-be-but-not-so-long-that-it-is-not-read\n"};

    open_state(NULL);
    state_close(&s);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct stat st;
        write_file("owner", texts[i]);
        err = (struct kg_err){0};
        ck_assert_int_eq(state_open(&s, dir, NULL, &err), KG_EINVAL);
        ck_assert_ptr_nonnull(strstr(err.words, "owner"));
        ck_assert_int_eq(stat(in_dir("owner"), &st), 0);
        ck_assert_int_eq(st.st_size, (off_t)strlen(texts[i]));
    }
    write_file("owner", "by-hand\n");
    open_state(NULL);
    ck_assert_str_eq(s.owner, "by-hand");
}
END_TEST

START_TEST(test_the_key_is_made_once_and_kept)
{
    char first[STATE_KEY_BYTES];
    struct stat st;

    open_state(NULL);
    memcpy(first, s.key, sizeof first);
    ck_assert_uint_eq(strspn(first, "0123456789abcdef"), 64);
    ck_assert_int_eq(stat(in_dir("key"), &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    state_close(&s);
    open_state("given"); /* an owner that is given does without its file, the key does not */
    ck_assert_str_eq(s.key, first);
}
END_TEST

/* A new one would disown all that the old one sealed. */
START_TEST(test_a_key_file_that_holds_no_key_is_not_replaced)
{
    static const char *const texts[] = {"", "short\n", "\n"};

    open_state(NULL);
    state_close(&s);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct stat st;
        write_file("key", texts[i]);
        err = (struct kg_err){0};
        ck_assert_int_eq(state_open(&s, dir, NULL, &err), KG_EINVAL);
        ck_assert_ptr_nonnull(strstr(err.words, "key"));
        ck_assert_int_eq(stat(in_dir("key"), &st), 0);
        ck_assert_int_eq(st.st_size, (off_t)strlen(texts[i]));
    }
}
END_TEST

/* Nobody is told to delete what only could not be read this time. */
START_TEST(test_what_cannot_be_read_is_not_called_wrong)
{
    static const char *const files[] = {"owner", "key"};

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        open_state(NULL);
        state_close(&s);
        ck_assert_int_eq(unlink(in_dir(files[i])), 0);
        ck_assert_int_eq(mkdir(in_dir(files[i]), 0700), 0);
        err = (struct kg_err){0};
        ck_assert_int_eq(state_open(&s, dir, NULL, &err), KG_EIO);
        ck_assert_ptr_nonnull(strstr(err.words, files[i]));
        ck_assert_ptr_nonnull(strstr(err.words, "cannot be read"));
        ck_assert_int_eq(rmdir(in_dir(files[i])), 0);
    }
}
END_TEST

/* A disk that is full takes a part first, and says why at the next one only. */
START_TEST(test_what_was_written_in_part_says_why)
{
    struct rlimit before, little;

    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    little = (struct rlimit){8, before.rlim_max};
    ck_assert_ptr_ne(signal(SIGXFSZ, SIG_IGN), SIG_ERR);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &little), 0);
    ck_assert_int_eq(state_open(&s, dir, NULL, &err), KG_EIO);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    ck_assert_msg(strstr(err.words, strerror(EFBIG)), "%s", err.words);
    ck_assert_int_eq(access(in_dir("owner"), F_OK), -1);
    ck_assert_int_eq(access(in_dir("owner.next"), F_OK), -1);
}
END_TEST

/* Nobody is told to look for another Kipgate that there is not. */
START_TEST(test_what_cannot_be_locked_is_not_called_held)
{
    no_lock = ENOLCK;
    ck_assert_int_eq(state_open(&s, dir, NULL, &err), KG_EIO);
    no_lock = 0;
    ck_assert_ptr_nonnull(strstr(err.words, strerror(ENOLCK)));
    ck_assert_ptr_null(strstr(err.words, "another Kipgate"));
}
END_TEST

START_TEST(test_a_directory_that_cannot_be_is_an_error)
{
    char too_long[300];

    memset(too_long, 'a', sizeof too_long - 1);
    too_long[0] = '/';
    too_long[sizeof too_long - 1] = '\0';
    ck_assert_int_eq(state_open(&s, too_long, NULL, &err), KG_EINVAL);
    err = (struct kg_err){0};
    ck_assert_int_eq(state_open(&s, "/dev/null/x", NULL, &err), KG_EIO);
    ck_assert_ptr_nonnull(strstr(err.words, "/dev/null/x"));
}
END_TEST

START_TEST(test_the_sockets_directory_is_made)
{
    char sockets[256];
    struct stat st;

    open_state(NULL);
    state_sockets_dir(&s, sockets, sizeof sockets);
    ck_assert_int_eq(stat(sockets, &st), 0);
    ck_assert(S_ISDIR(st.st_mode));
    ck_assert_str_eq(sockets, in_dir("sockets"));
}
END_TEST

/* --- locks --- */

START_TEST(test_a_second_control_is_refused)
{
    struct state other;

    open_state(NULL);
    ck_assert_int_eq(state_open(&other, dir, NULL, &err), KG_ECONFLICT);
    ck_assert_ptr_nonnull(strstr(err.words, dir));
    ck_assert_int_ge(state_life(&s, 0), 0);
    ck_assert_uint_eq(fronts_locks(), 1);
    state_close(&s);
    ck_assert_uint_eq(fronts_locks(), 0);
    open_state(NULL);
}
END_TEST

/* A state directory that was copied, or an owner that was configured twice. */
START_TEST(test_an_owner_is_one_controls_on_an_engine)
{
    struct state other = {.owner = "o", .dir_fd = -1, .lock_fd = -1, .owner_fd = -1};

    snprintf(other.owner, sizeof other.owner, "test-%d", (int)getpid());
    open_state(other.owner);
    ck_assert_int_eq(state_claim_owner(&s, "unix:///a", &err), 0);
    ck_assert_int_eq(state_claim_owner(&other, "unix:///a", &err), KG_ECONFLICT);
    ck_assert_ptr_nonnull(strstr(err.words, other.owner));
    ck_assert_int_eq(state_claim_owner(&other, "unix:///b", &err), 0);
    state_close(&other);
    state_close(&s);
    ck_assert_int_eq(state_claim_owner(&other, "unix:///a", &err), 0);
    state_close(&other);
    open_state(NULL);
}
END_TEST

/* /var/run/docker.sock and /run/docker.sock are one on most machines. */
START_TEST(test_an_engine_is_one_whatever_links_lead_there)
{
    struct state other = {.dir_fd = -1, .lock_fd = -1, .owner_fd = -1};
    char real[160], link[160];

    snprintf(other.owner, sizeof other.owner, "test-%d", (int)getpid());
    open_state(other.owner);
    ck_assert_int_eq(symlink(dir, in_dir("link")), 0);
    snprintf(real, sizeof real, "unix://%s/engine.sock", dir);
    snprintf(link, sizeof link, "unix://%s/engine.sock", in_dir("link"));
    ck_assert_int_eq(state_claim_owner(&s, link, &err), 0);
    ck_assert_int_eq(state_claim_owner(&other, real, &err), KG_ECONFLICT);
    snprintf(real, sizeof real, "unix://%s/other.sock", dir);
    ck_assert_int_eq(state_claim_owner(&other, real, &err), 0);
    state_close(&other);
    ck_assert_int_eq(state_claim_owner(&other, "unix:///engine.sock", &err), 0);
    state_close(&other);
    write_file("engine.sock", "");
    ck_assert_int_eq(unlink(in_dir("link")), 0);
    ck_assert_int_eq(symlink("engine.sock", in_dir("link")), 0);
    snprintf(link, sizeof link, "unix://%s", in_dir("link"));
    err = (struct kg_err){0};
    ck_assert_int_eq(state_claim_owner(&other, link, &err), KG_ECONFLICT);
}
END_TEST

/* Whoever is turned away leaves a connection behind, and a queue of them takes only so many. */
START_TEST(test_an_owner_is_held_against_any_number_of_rivals)
{
    struct state other = {.dir_fd = -1, .lock_fd = -1, .owner_fd = -1};

    snprintf(other.owner, sizeof other.owner, "test-%d", (int)getpid());
    open_state(other.owner);
    ck_assert_int_eq(state_claim_owner(&s, "unix:///a", &err), 0);
    for (int i = 0; i < 100; i++) {
        err = (struct kg_err){0};
        ck_assert_int_eq(state_claim_owner(&other, "unix:///a", &err), KG_ECONFLICT);
        state_turn_away(&s); /* as control does when it can be read */
    }
}
END_TEST

START_TEST(test_our_own_fronts_are_not_old_ones)
{
    int life;

    open_state(NULL);
    life = state_life(&s, 3);
    ck_assert_int_ge(life, 0);
    ck_assert_int_eq(state_life(&s, 3), life);
    ck_assert(!state_old_fronts_live(&s));
    ck_assert_uint_eq(fronts_locks(), 1);
}
END_TEST

/* A control that is killed: its lock ends with it, its front goes on holding its own. */
static int killed_with_a_front(char name[STATE_LIFE_BYTES])
{
    int held;

    open_state(NULL);
    held = dup(state_life(&s, 0)); /* a front inherited it */
    if (name)
        memcpy(name, s.lives[0].name, STATE_LIFE_BYTES);
    close(s.lives[0].fd);
    close(s.lock_fd);
    close(s.dir_fd);
    open_state(NULL);
    return held;
}

START_TEST(test_a_front_that_was_taken_over_is_no_old_one)
{
    char name[STATE_LIFE_BYTES];
    int held = killed_with_a_front(name);

    ck_assert(state_old_fronts_live(&s));
    state_life_adopt(&s, 0, name);
    ck_assert(!state_old_fronts_live(&s));
    ck_assert_uint_eq(fronts_locks(), 1);
    ck_assert_int_ge(state_life(&s, 0), 0); /* for the one that comes after it */
    ck_assert(state_old_fronts_live(&s));
    close(held);
    ck_assert(!state_old_fronts_live(&s));
}
END_TEST

/* --- where fronts are found again --- */

START_TEST(test_a_front_is_found_where_it_listens)
{
    int door, to;

    open_state(NULL);
    ck_assert_int_eq(state_attach_connect(&s, 0), -1);
    door = state_attach_listen(&s, 0);
    ck_assert_int_ge(door, 0);
    to = state_attach_connect(&s, 0);
    ck_assert_int_ge(to, 0);
    ck_assert_int_eq(state_attach_connect(&s, 1), -1);
    close(to);
    close(door);
}
END_TEST

/* One that accepts nobody, with as many before us as it may have: it is not waited for for ever. */
START_TEST(test_a_front_that_accepts_nobody_is_given_up)
{
    int door, to[2], more;

    open_state(NULL);
    door = state_attach_listen(&s, 0);
    for (int i = 0; i < 2; i++) {
        to[i] = state_attach_connect(&s, 0);
        ck_assert_int_ge(to[i], 0);
    }
    more = state_attach_connect(&s, 0);
    ck_assert_int_eq(more, -1);
    for (int i = 0; i < 2; i++)
        close(to[i]);
    close(door);
}
END_TEST

START_TEST(test_what_a_dead_front_left_is_removed)
{
    struct stat st;

    open_state(NULL);
    close(state_attach_listen(&s, 5));
    ck_assert_int_eq(stat(in_dir("front-5.sock"), &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    ck_assert_int_eq(state_attach_connect(&s, 5), -1);
    ck_assert_int_ne(stat(in_dir("front-5.sock"), &st), 0);
}
END_TEST

START_TEST(test_fronts_of_a_killed_run_are_seen_until_they_end)
{
    int held = killed_with_a_front(NULL);

    ck_assert_int_ge(state_life(&s, 0), 0);
    ck_assert_uint_eq(fronts_locks(), 2);
    ck_assert(state_old_fronts_live(&s));
    ck_assert(state_old_fronts_live(&s));
    close(held);
    ck_assert(!state_old_fronts_live(&s));
    ck_assert_uint_eq(fronts_locks(), 1);
}
END_TEST

START_TEST(test_a_lock_that_cannot_be_asked_counts_as_held)
{
    open_state(NULL);
    ck_assert_int_eq(mkdir(in_dir("fronts-1-1"), 0700), 0);
    ck_assert(state_old_fronts_live(&s));
    ck_assert_int_eq(rmdir(in_dir("fronts-1-1")), 0);
    ck_assert(!state_old_fronts_live(&s));
}
END_TEST

START_TEST(test_without_descriptors_old_fronts_count_as_alive)
{
    int spare[1024], n = 0;

    open_state(NULL);
    while (n < 1024 && (spare[n] = dup(s.lock_fd)) >= 0)
        n++;
    if (n < 1024) { /* else this process may have more than the test would use up */
        ck_assert_int_eq(errno, EMFILE);
        ck_assert(state_old_fronts_live(&s));
    }
    while (n > 0)
        close(spare[--n]);
    ck_assert(!state_old_fronts_live(&s));
}
END_TEST

/* --- clocks --- */

START_TEST(test_clocks_come_back_less_those_in_use)
{
    struct fleet before = {.clocks = {{"kipgate-a-1", 12345, false},
                                      {"kipgate-b-2", 777, true},
                                      {"kipgate-c-3", 0, false}},
                           .count = 3},
                 after = {0};

    open_state(NULL);
    s.dirty = true;
    state_save(&s, &before);
    ck_assert(!s.dirty);
    state_close(&s);
    open_state(NULL);
    state_recall(&s, &after);
    ck_assert_uint_eq(after.count, 2);
    ck_assert_str_eq(after.clocks[0].name, "kipgate-a-1");
    ck_assert_int_eq(after.clocks[0].used_ms, 12345);
    ck_assert_str_eq(after.clocks[1].name, "kipgate-c-3");
    ck_assert_int_eq(after.clocks[1].used_ms, 0);
}
END_TEST

START_TEST(test_what_is_being_ended_is_known_at_once)
{
    struct fleet before = {.clocks = {{"kipgate-a-1", 12345, false}}, .count = 1}, after = {0};

    open_state(NULL);
    state_save_ending(&s, &before, "kipgate-a-1"); /* no file of this run yet: a whole one */
    state_save_ending(&s, &before, "kipgate-b-2");
    state_close(&s);
    open_state(NULL);
    state_recall(&s, &after);
    ck_assert_uint_eq(after.count, 2);
    ck_assert_int_eq(after.clocks[0].used_ms, 12345); /* as the fleet says, which knows of it */
    ck_assert_str_eq(after.clocks[1].name, "kipgate-b-2");
    ck_assert_int_eq(after.clocks[1].used_ms, 0);
}
END_TEST

START_TEST(test_clocks_of_another_boot_mean_nothing)
{
    struct fleet after = {0};

    open_state(NULL);
    write_file("clocks", "01234567-89ab-cdef-0123-456789abcdef\nkipgate-a-1 12345 0\n");
    state_recall(&s, &after);
    ck_assert_uint_eq(after.count, 0);
    write_file("clocks", "unknown\nkipgate-a-1 12345 0\n");
    state_recall(&s, &after);
    ck_assert_uint_eq(after.count, 0);
}
END_TEST

START_TEST(test_half_written_clocks_cost_only_themselves)
{
    struct fleet before = {0}, after = {0};
    char boot[128], text[512];

    open_state(NULL);
    state_recall(&s, &after); /* there are none yet */
    state_save(&s, &before);
    read_file("clocks", boot, sizeof boot);
    snprintf(text, sizeof text,
             "%sgood 5 0\nbad\nworse x 0\nnegative -5 0\n %0200d 1 0\n\n\xff\xfe 3\nlast 6 0", boot,
             0);
    write_file("clocks", text);
    state_recall(&s, &after);
    ck_assert_uint_eq(after.count, 2);
    ck_assert_str_eq(after.clocks[0].name, "good");
    ck_assert_str_eq(after.clocks[1].name, "last");
    write_file("clocks", "");
    state_recall(&s, &after);
    ck_assert_uint_eq(after.count, 2);
}
END_TEST

START_TEST(test_what_was_learnt_comes_back)
{
    struct fleet before = {.habits = {{"", "all of them", 0}, {"a", "one two", 5000}},
                           .habit_count = 2,
                           .learnt = true},
                 after = {0};

    open_state(NULL);
    state_recall_habits(&s, &after); /* there is nothing yet */
    ck_assert_uint_eq(after.habit_count, 0);
    state_save_habits(&s, &before, true);
    state_close(&s);
    open_state(NULL);
    state_recall_habits(&s, &after);
    ck_assert_uint_eq(after.habit_count, 2);
    ck_assert_str_eq(after.habits[0].service, "");
    ck_assert_str_eq(after.habits[0].habit, "all of them");
    ck_assert_str_eq(after.habits[1].service, "a");
    ck_assert_str_eq(after.habits[1].habit, "one two");
    ck_assert_int_ge(after.habits[1].idle_ms, 5000);
    ck_assert_int_lt(after.habits[1].idle_ms, 60000);
}
END_TEST

START_TEST(test_what_was_learnt_is_saved_seldom_and_only_when_new)
{
    struct fleet f = {.habits = {{"", "x", 0}}, .habit_count = 1};
    char text[512];

    open_state(NULL);
    state_save_habits(&s, &f, true); /* nothing new */
    ck_assert_int_ne(access(in_dir("habits"), F_OK), 0);
    s.habits_saved_ms = kg_clock_mono_ms();
    f.learnt = true;
    state_save_habits(&s, &f, false); /* not again so soon, and not forgotten */
    ck_assert_int_ne(access(in_dir("habits"), F_OK), 0);
    ck_assert(f.learnt);
    state_save_habits(&s, &f, true);
    read_file("habits", text, sizeof text);
    ck_assert_int_eq(strncmp(text, "* ", 2), 0);
    write_file("habits", "bad\n* x y\na 5\n\n\xff\na -9223372036854775808 x\n");
    f.habit_count = 0;
    state_recall_habits(&s, &f);
    ck_assert_uint_eq(f.habit_count, 0);
}
END_TEST

/* Nothing new is learnt until the disk has room again, perhaps. */
START_TEST(test_what_could_not_be_saved_is_saved_later)
{
    struct fleet f = {.habits = {{"", "x", 0}}, .habit_count = 1, .learnt = true};

    open_state(NULL);
    ck_assert_int_eq(mkdir(in_dir("habits.next"), 0700), 0); /* in the way */
    state_save_habits(&s, &f, true);
    ck_assert(!f.learnt);
    ck_assert_int_eq(rmdir(in_dir("habits.next")), 0);
    state_save_habits(&s, &f, false); /* not so soon */
    ck_assert_int_ne(access(in_dir("habits"), F_OK), 0);
    state_save_habits(&s, &f, true);
    ck_assert_int_eq(access(in_dir("habits"), F_OK), 0);
    ck_assert_int_eq(unlink(in_dir("habits")), 0);
    state_save_habits(&s, &f, true); /* once is enough */
    ck_assert_int_ne(access(in_dir("habits"), F_OK), 0);
}
END_TEST

START_TEST(test_services_keep_their_numbers)
{
    struct fleet f = {0};

    open_state(NULL);
    state_recall_services(&s, &f);
    ck_assert_uint_eq(numbered_count, 0);
    state_save_services(&s, &f);
    state_recall_services(&s, &f);
    ck_assert_uint_eq(numbered_count, 2);
    ck_assert_str_eq(numbered[0].name, "pdf");
    ck_assert_str_eq(numbered[1].name, "thumbnails");
    ck_assert_uint_eq(numbered[1].id, 4095);
    numbered_count = 0;
    write_file("services", "not a number\n7 a\n\n8\n");
    state_recall_services(&s, &f);
    ck_assert_uint_eq(numbered_count, 1);
    ck_assert_uint_eq(numbered[0].id, 7);
    numbered_count = 0;
}
END_TEST

START_TEST(test_a_save_leaves_nothing_beside_the_file)
{
    struct fleet before = {.clocks = {{"kipgate-a-1", 1, false}}, .count = 1};
    struct stat st;

    open_state(NULL);
    write_file("clocks.next", "left by a killed run");
    ck_assert_int_eq(chmod(in_dir("clocks.next"), 0600), 0);
    state_save(&s, &before);
    ck_assert_int_ne(access(in_dir("clocks.next"), F_OK), 0);
    ck_assert_int_eq(stat(in_dir("clocks"), &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0600);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("state");
    TCase *t = tcase_create("state");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, test_the_owner_is_made_once_and_kept);
    tcase_add_test(t, test_a_given_owner_is_not_saved);
    tcase_add_test(t, test_an_owner_file_that_says_nothing_is_not_replaced);
    tcase_add_test(t, test_the_key_is_made_once_and_kept);
    tcase_add_test(t, test_a_key_file_that_holds_no_key_is_not_replaced);
    tcase_add_test(t, test_what_cannot_be_read_is_not_called_wrong);
    tcase_add_test(t, test_what_was_written_in_part_says_why);
    tcase_add_test(t, test_what_cannot_be_locked_is_not_called_held);
    tcase_add_test(t, test_a_directory_that_cannot_be_is_an_error);
    tcase_add_test(t, test_the_sockets_directory_is_made);
    tcase_add_test(t, test_a_second_control_is_refused);
    tcase_add_test(t, test_a_front_that_was_taken_over_is_no_old_one);
    tcase_add_test(t, test_a_front_is_found_where_it_listens);
    tcase_add_test(t, test_a_front_that_accepts_nobody_is_given_up);
    tcase_add_test(t, test_what_a_dead_front_left_is_removed);
    tcase_add_test(t, test_an_owner_is_one_controls_on_an_engine);
    tcase_add_test(t, test_an_engine_is_one_whatever_links_lead_there);
    tcase_add_test(t, test_an_owner_is_held_against_any_number_of_rivals);
    tcase_add_test(t, test_our_own_fronts_are_not_old_ones);
    tcase_add_test(t, test_fronts_of_a_killed_run_are_seen_until_they_end);
    tcase_add_test(t, test_a_lock_that_cannot_be_asked_counts_as_held);
    tcase_add_test(t, test_without_descriptors_old_fronts_count_as_alive);
    tcase_add_test(t, test_clocks_come_back_less_those_in_use);
    tcase_add_test(t, test_what_is_being_ended_is_known_at_once);
    tcase_add_test(t, test_clocks_of_another_boot_mean_nothing);
    tcase_add_test(t, test_half_written_clocks_cost_only_themselves);
    tcase_add_test(t, test_what_was_learnt_comes_back);
    tcase_add_test(t, test_what_was_learnt_is_saved_seldom_and_only_when_new);
    tcase_add_test(t, test_what_could_not_be_saved_is_saved_later);
    tcase_add_test(t, test_services_keep_their_numbers);
    tcase_add_test(t, test_a_save_leaves_nothing_beside_the_file);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
