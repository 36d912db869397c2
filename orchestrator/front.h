/* SPDX-License-Identifier: Apache-2.0 */
/* The front process: joins the proxy to control's messages. It holds no engine socket, no file and
 * no privilege. The difficulty: when control is gone it must still finish what it has begun. */
#ifndef ORCHESTRATOR_FRONT_H
#define ORCHESTRATOR_FRONT_H

/* Descriptors that control hands to a front at its start; listeners follow. */
enum front_fd {
    FRONT_FD_CHANNEL = 3,
    FRONT_FD_STATS,      /* memory of struct proxy_stats */
    FRONT_FD_LIFE,       /* kept open: a lock that tells the next control that we live */
    FRONT_FD_ACCESS_LOG, /* or /dev/null */
    FRONT_FD_DOOR,       /* another control is accepted from here when ours is gone */
    FRONT_FD_LISTENERS,
};

/* The whole life of a front. Returns its exit status. */
int front_run(void);

#endif
