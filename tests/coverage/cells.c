/* SPDX-License-Identifier: Apache-2.0 */
/* Which cells of the instance table were entered: names in a file that all runs map, as counters
 * do. The difficulty: a table has no branches that a compiler could count, so fleet_step.c, built
 * for coverage, asks here in place of the table. */
#include "orchestrator/instance.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

struct entered {
    char name[64];
};

static struct entered *entered;

/* What asks: the define that renames it in fleet_step.c renames its declaration there, too. */
const struct instance_cell *coverage_cell(enum instance_state state, enum instance_event event);

/* Before main, while there are files. Without the file nothing is noted. */
__attribute__((constructor)) static void map_file(void)
{
    const size_t size = sizeof *entered * INSTANCE_STATE_COUNT * INSTANCE_EVENT_COUNT;
    int fd = open(KIPGATE_CELLS, O_RDWR | O_CLOEXEC);
    void *at = MAP_FAILED;

    if (fd >= 0 && ftruncate(fd, (off_t)size) == 0)
        at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (at != MAP_FAILED)
        entered = at;
}

const struct instance_cell *coverage_cell(enum instance_state state, enum instance_event event)
{
    const struct instance_cell *cell = instance_cell(state, event);
    struct entered *e = entered ? &entered[state * INSTANCE_EVENT_COUNT + event] : NULL;

    if (e && e->name[0] == '\0')
        snprintf(e->name, sizeof e->name, "%s %s", instance_state_name(state),
                 instance_event_name(event));
    return cell;
}
