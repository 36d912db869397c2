/* SPDX-License-Identifier: Apache-2.0 */
/* The control process: puts configuration, fleet, engine, fronts and admin together on one loop.
 * The difficulty: it starts and ends in stages, each of which a signal or a failure may interrupt.
 */
#ifndef ORCHESTRATOR_CONTROL_H
#define ORCHESTRATOR_CONTROL_H

/* Serves until told to end. argv[0] is the first option (as config_load takes them). Returns the
 * exit status: 0 fine, 1 failed at run time, 2 configuration error. */
int control_run(int argc, char **argv);

#endif
