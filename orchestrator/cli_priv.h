/* SPDX-License-Identifier: Apache-2.0 */
/* What the command line's files share. The difficulty: commands are named in the help, the manual
 * and the dispatch, and all three must name the same. */
#ifndef ORCHESTRATOR_CLI_PRIV_H
#define ORCHESTRATOR_CLI_PRIV_H

#include "base/buf.h"
#include "orchestrator/cli.h"

#define CLI_FINE 0
#define CLI_FAILED 1
#define CLI_USAGE 2
#define CLI_NOT_OURS (-1)

enum cli_wants { /* of a client command */
                 CLI_WANTS_NAME = 1,
                 CLI_TAKES_JSON = 2,
                 CLI_TAKES_READY = 4,
};
struct cli_command {
    const char *name;
    const char *operands;
    const char *words;
    /* With what stands behind the command's name; an exit status, or CLI_NOT_OURS. */
    int (*run)(const struct cli_command *command, int argc, char **argv);
    unsigned wants; /* enum cli_wants */
};
extern const struct cli_command cli_commands[]; /* ended by a row without a name */

/* Ends what was printed; the exit status. A full disk behind standard output is a failure, and
 * told, as is what was not good before. */
int cli_written(bool good);
/* cli_client.c: a command that asks the admin API. */
int cli_run_client(const struct cli_command *command, int argc, char **argv);
/* cli_manual.c: the whole manual page. */
void cli_print_manual(struct kg_buf *out);

#endif
