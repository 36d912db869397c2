/* SPDX-License-Identifier: Apache-2.0 */
/* One program, two kinds of process and a few commands. The difficulty: `front` is internal and
 * must be recognised before anything of its environment is believed. */
#include "orchestrator/cli.h"
#include "orchestrator/control.h"
#include "orchestrator/front.h"
#include "proxy/tls.h"
#include <string.h>

int main(int argc, char **argv)
{
    int status, at;

    tls_watch_memory();
    if (argc == 2 && strcmp(argv[1], "front") == 0)
        return front_run();
    status = cli_run(argc, argv);
    if (status >= 0)
        return status;
    at = cli_options_at(argc, argv);
    return control_run(argc - at, argv + at);
}
