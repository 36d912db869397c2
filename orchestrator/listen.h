/* SPDX-License-Identifier: Apache-2.0 */
/* Opens the sockets that fronts accept from. Control opens them (ports below 1024, one per front by
 * SO_REUSEPORT) and keeps them, so that what has queued on a dead front's socket meets the next
 * one. The difficulty: one address in several sockets, or one socket shared where the kind has no
 * port. */
#ifndef ORCHESTRATOR_LISTEN_H
#define ORCHESTRATOR_LISTEN_H

#include "base/err.h"
#include "orchestrator/config.h"

struct listen_set {
    int fds[KG_MAX_FRONTS]; /* one per front; -1 past `count` */
    size_t count;
    bool shared; /* all fronts share fds[0] */
    bool unix_socket;
    bool secure;                             /* clients speak TLS: for whoever opened it to say */
    char path[KG_MAX_SOCKET_PATH_BYTES + 1]; /* of a Unix socket that we made: removed at close */
    char name[128];                          /* the bound address, for people */
};

/* "host:port", "[v6]:port" or "unix:/path", for `fronts` accepting processes. A stale Unix socket
 * file (nobody answers) is replaced, a live one is an error. 0, or a code with *err filled. */
int listen_open(struct listen_set *set, const char *address, size_t fronts, struct kg_err *err);
/* A listening descriptor that was passed to us, shared by all fronts. */
int listen_adopt(struct listen_set *set, int fd, struct kg_err *err);
/* Takes over what fronts of an earlier control accept from: fds[front], -1 where there is none, at
 * least one is not. Those without get another socket of the address, or share the first. `passed`:
 * they are of a socket that was passed, of which there is no other, and whose file is not ours. */
int listen_inherit(struct listen_set *set, const char *address, bool passed, const int *fds,
                   size_t fronts, struct kg_err *err);
int listen_fd(const struct listen_set *set, size_t front);
void listen_close(struct listen_set *set);

/* How many descriptors systemd passed (they begin at 3); marks them close-on-exec. More than
 * KG_MAX_LISTEN are told as one more than that, and left alone. */
int listen_passed_count(void);
/* Whether they stay open for the program that this process becomes, which is told of them as we
 * were: it has our process id. */
void listen_pass_on(bool on);

#endif
