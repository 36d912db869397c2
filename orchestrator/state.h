/* SPDX-License-Identifier: Apache-2.0 */
/* What outlives a run, in state_dir: who we are, the idle clocks, and locks that say who still
 * lives. The difficulty: the process may die between any two instructions, so files are replaced
 * whole and everything read back is doubted. */
#ifndef ORCHESTRATOR_STATE_H
#define ORCHESTRATOR_STATE_H

#include "base/err.h"
#include "orchestrator/fleet.h"

#define STATE_OWNER_BYTES 65
#define STATE_KEY_BYTES 65
#define STATE_LIFE_PREFIX "fronts-" /* of the names of fronts' locks; digits and dashes follow */
#define STATE_LIFE_BYTES 64

struct state {
    char dir[224]; /* room for a file name within a socket path's or PATH_MAX's limits */
    char owner[STATE_OWNER_BYTES];
    char key[STATE_KEY_BYTES]; /* seals our containers: whose labels are copied is not ours */
    int dir_fd, lock_fd; /* the lock is held for the process's life: one control per state_dir */
    int owner_fd; /* likewise: one control per owner and engine on this machine; -1: not claimed */
    struct state_life {
        int fd; /* -1: the lock is the front's alone, or there is none */
        char name[STATE_LIFE_BYTES];
    } lives[KG_MAX_FRONTS];  /* locks that fronts inherit: held while they live */
    bool dirty;              /* clocks changed since they were written */
    bool saved;              /* the file of clocks is this run's */
    bool habits_lost;        /* they could not be written */
    int64_t habits_saved_ms; /* monotonic */
};

/* Makes the directory and takes the lock. KG_ECONFLICT when another Kipgate holds it. `owner` NULL:
 * read from the directory, or made. */
int state_open(struct state *s, const char *dir, const char *owner, struct kg_err *err);
/* After state_open. KG_ECONFLICT when a Kipgate with another state_dir has our owner on that
 * engine: each would remove what the other makes. It cannot see into other machines, nor out of a
 * container with a network of its own. */
int state_claim_owner(struct state *s, const char *engine, struct kg_err *err);
/* When owner_fd can be read: those who asked who holds it know by now. Were they kept, a queue of
 * them that is full would turn the next one away without an answer, and let it start. */
void state_turn_away(struct state *s);
void state_close(struct state *s);
/* Tells the fleet the clocks that the last run saved; those in use then have none. */
void state_recall(const struct state *s, struct fleet *f);
/* Tells the fleet what the last run learnt, after it was configured. */
void state_recall_habits(const struct state *s, struct fleet *f);
/* What was learnt, if anything is new; not oftener than every ten seconds unless `now`. */
void state_save_habits(struct state *s, struct fleet *f, bool now);
/* Writes all clocks now. What cannot be written is said in the log; `saved` tells it. */
void state_save(struct state *s, const struct fleet *f);
/* Adds that `name` is being ended, whatever its clock was; kept by a crash of ours when it returns.
 */
void state_save_ending(struct state *s, const struct fleet *f, const char *name);
/* The lock that front `index` inherits; made at first. -1: it cannot be made. */
int state_life(struct state *s, size_t index);
/* A front of an earlier run is ours now, and so is its lock. */
void state_life_adopt(struct state *s, size_t index, const char *name);
/* Do other fronts of an earlier run still live? Removes the lock files of those that do not. */
bool state_old_fronts_live(const struct state *s);
/* A listening socket (SOCK_SEQPACKET) in the directory, for front `index`. -1: it cannot be. */
int state_attach_listen(const struct state *s, size_t index);
/* Connects to the one that a front of an earlier run listens on. -1: there is none. */
int state_attach_connect(const struct state *s, size_t index);
/* The numbers that services had: fronts that outlive us know them by these. Told to the fleet
 * before it is first configured, and written before fronts are told of new ones. */
void state_recall_services(const struct state *s, struct fleet *f);
void state_save_services(const struct state *s, const struct fleet *f);
/* The directory that holds the sockets of `socket` services; all that a front may see. It is made
 * by state_open; whoever sweeps old empty directories takes it for one, and a front needs it. */
int state_make_sockets(const struct state *s, struct kg_err *err);
void state_sockets_dir(const struct state *s, char *out, size_t cap);

#endif
