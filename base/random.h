/* SPDX-License-Identifier: Apache-2.0 */
/* Random bytes of the kernel's. The difficulty: a library's generator may have no memory just when
 * it is asked first; the kernel always has what it needs. */
#ifndef KG_BASE_RANDOM_H
#define KG_BASE_RANDOM_H

#include <stddef.h>

void kg_random(void *out, size_t n); /* aborts when there is no randomness */

#endif
