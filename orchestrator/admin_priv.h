/* SPDX-License-Identifier: Apache-2.0 */
/* What the admin API's files share. The difficulty: counters of several processes make one number.
 */
#ifndef ORCHESTRATOR_ADMIN_PRIV_H
#define ORCHESTRATOR_ADMIN_PRIV_H

#include "base/list.h"
#include "orchestrator/admin.h"
#include "orchestrator/json.h"

struct admin_asker { /* waits for a wake or sleep, or follows events */
    struct kg_list link;
    struct admin *admin;
    uint64_t request;
    char service[KG_MAX_NAME_BYTES + 1];
};

#define ADMIN_MAX_RESULTS 24
#define ADMIN_MAX_ACTIONS 4

struct admin_tally { /* how often a word was told */
    char word[32];   /* "" ends the list; the last place takes all words beyond it */
    uint64_t count;
};
struct admin_service_counts {
    char name[KG_MAX_NAME_BYTES + 1]; /* of the service that has this id; "" = none yet */
    struct admin_tally results[ADMIN_MAX_RESULTS], actions[ADMIN_MAX_ACTIONS];
    uint64_t resumes;
    struct kg_histogram phases[FLEET_PHASES];
    /* By fronts, of the service that had this id before; NULL: none had it. */
    struct proxy_service_stats *before;
};

struct admin {
    struct admin_params params;
    struct kg_list askers, followers;
    size_t asker_count;                  /* in both */
    struct admin_service_counts *counts; /* by service id */
};

/* One more in that list; NULL where there is no room for it: its answer is given then. */
struct admin_asker *admin_asker_new(struct admin *a, uint64_t request, struct kg_list *list);
void admin_asker_free(struct admin_asker *k);
void admin_answer_json(struct admin *a, uint64_t request, int status, struct json *n);
void admin_answer_text(struct admin *a, uint64_t request, int status, const char *type,
                       struct kg_str text);
void admin_problem(struct admin *a, uint64_t request, int status, const char *name,
                   const char *title, const char *detail);
/* The same, of a row of the reason table. retry_after_ms: 0 where nothing is known. */
void admin_refuse(struct admin *a, uint64_t request, unsigned reason, int64_t retry_after_ms,
                  const char *detail);
/* admin_services.c: false when the path is none of its own. */
bool admin_services(struct admin *a, const struct admin_request *r, int64_t now_ms);
void admin_not_allowed(struct admin *a, uint64_t request, const char *allowed);
/* admin_metrics.c */
void admin_metrics(struct admin *a, struct kg_buf *out, int64_t now_ms);
void admin_tally_add(struct admin_tally *tallies, size_t cap, const char *word);
/* All that fronts have counted under that id; NULL: no memory. The caller frees it. */
struct proxy_service_stats *admin_counted(const struct admin *a, uint32_t service);
/* Sum of a service's exchanges over all fronts. */
uint64_t admin_exchanges(const struct admin *a, uint32_t service);

#endif
