/* SPDX-License-Identifier: Apache-2.0 */
/* The do-nothing program that holds a network namespace open, as the bytes of its file.
 * The difficulty: it runs on the engine's machine, which must be of our own kind. */
#ifndef ORCHESTRATOR_PARKING_PROGRAM_H
#define ORCHESTRATOR_PARKING_PROGRAM_H

#include "base/str.h"

#define PARKING_PROGRAM_NAME "kipgate-sandbox" /* of its file, and of its image */

/* Static, for good; n 0: there is none for this kind of machine. */
struct kg_str parking_program(void);

#endif
