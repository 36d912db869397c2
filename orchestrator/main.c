/* SPDX-License-Identifier: Apache-2.0 */
/* One program, two kinds of process and a few commands. The difficulty: `front` is internal and
 * must be recognised before anything of its environment is believed. */
#include "orchestrator/cli.h"
#include "orchestrator/control.h"
#include "orchestrator/front.h"
#include "proxy/tls.h"
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Where one is missing the next file that is opened gets its number, and what is meant for standard
 * error is written into that. Open for reading alone: writing fails, as it did without it. */
static void hold_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/dev/null", O_RDONLY); /* takes the lowest number that is free: this one */
}

int main(int argc, char **argv)
{
    int status, at;

    hold_standard_descriptors();
    tls_watch_memory();
    if (argc == 2 && strcmp(argv[1], "front") == 0)
        return front_run();
    status = cli_run(argc, argv);
    if (status >= 0)
        return status;
    at = cli_options_at(argc, argv);
    return control_run(argc - at, argv + at);
}
