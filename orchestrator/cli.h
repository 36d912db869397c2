/* SPDX-License-Identifier: Apache-2.0 */
/* The commands other than serve: they speak to the admin API, or to nobody (check, version).
 * The difficulty: each must say plainly what is wrong, and its exit status is a promise. */
#ifndef ORCHESTRATOR_CLI_H
#define ORCHESTRATOR_CLI_H

/* argv[0] is the program. Runs every command but serve and front; 0, 1 or 2 as exit status; -1 when
 * the command is serve (also when none is named): the caller goes on. */
int cli_run(int argc, char **argv);
/* Index in argv from which config_load should read for serve. */
int cli_options_at(int argc, char **argv);

#endif
