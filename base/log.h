/* SPDX-License-Identifier: Apache-2.0 */
/* One line per event to standard error, as text or JSON. Every value goes through one escaper, so
 * that no peer's bytes can forge a line or a field. */
#ifndef KG_BASE_LOG_H
#define KG_BASE_LOG_H

#include "base/buf.h"

enum kg_log_level { KG_LOG_DEBUG, KG_LOG_INFO, KG_LOG_WARN, KG_LOG_ERROR };
enum kg_log_format { KG_LOG_TEXT, KG_LOG_JSON };

/* Process-wide: standard error is, too. `who` ("control", "front-0") is copied. */
void kg_log_setup(enum kg_log_level least, enum kg_log_format format, const char *who);
bool kg_log_enabled(enum kg_log_level level);

struct kg_log_field {
    const char *key;
    const char *text; /* NULL: the number counts */
    int64_t number;
};
/* A function, so that compilers do not complain where the text is an array and cannot be NULL. */
static inline const char *kg_log_text(const char *text)
{
    return text ? text : "";
}
#define KG_F(key, text) ((struct kg_log_field){(key), kg_log_text(text), 0})
#define KG_FN(key, number) ((struct kg_log_field){(key), NULL, (number)})

/* `event` is a short fixed word ("instance-state"); values are cut at 1 KiB. Never blocks for long,
 * never fails: a line that cannot be written is dropped. */
void kg_log_write(enum kg_log_level level, const char *event, const struct kg_log_field *fields,
                  size_t count);
#define KG_LOG(level, event, ...)                                                                  \
    do {                                                                                           \
        if (kg_log_enabled(level)) {                                                               \
            const struct kg_log_field kg_fields_[] = {__VA_ARGS__};                                \
            kg_log_write(level, event, kg_fields_, sizeof kg_fields_ / sizeof *kg_fields_);        \
        }                                                                                          \
    } while (0)

/* Appends s as the inside of a JSON string: quotes, controls and bytes that are not UTF-8 escaped.
 */
void kg_json_escape(struct kg_buf *out, struct kg_str s);

#endif
