/* SPDX-License-Identifier: Apache-2.0 */
/* What the worker does, chosen by the last segment of a request's path. See README.md. */
#ifndef ECHO_SWITCHES_H
#define ECHO_SWITCHES_H

#include "http.h"

struct worker { /* what requests ask about */
    char hostname[256];
    char id[33]; /* random, made at boot */
    uint64_t connections, requests;
    unsigned now, peak; /* requests in progress; the most at once */
    int64_t healthy_ms; /* when /health begins to answer 200 */
};
extern struct worker worker;

void switches_answer(struct request *r);
void eat_memory(int64_t mib); /* and keep it */

#endif
