/* SPDX-License-Identifier: Apache-2.0 */
/* What the configuration's files share: one record per key, and where a value came from.
 * The difficulty: parser, flags, environment, help, schema and printing must never disagree, so all
 * of them read the same records. */
#ifndef ORCHESTRATOR_CONFIG_PRIV_H
#define ORCHESTRATOR_CONFIG_PRIV_H

#include "base/log.h"
#include "orchestrator/config.h"
#include "orchestrator/json.h"

#define CONFIG_MAX_JSON_DEPTH 16
#define CONFIG_DEFAULT_FILE "/etc/kipgate/kipgate.json"
#define CONFIG_FORMAT_UNSET ((enum kg_log_format)99) /* until the default is found out */

enum config_type {
    CONFIG_STRING,   /* char *; max: bytes */
    CONFIG_STRINGS,  /* struct config_strings; min, max: items */
    CONFIG_PAIRS,    /* the same, of "NAME=value": a list, or an object of strings */
    CONFIG_INT,      /* int */
    CONFIG_INT64,    /* int64_t */
    CONFIG_DURATION, /* int64_t, milliseconds */
    CONFIG_SIZE,     /* int64_t, bytes */
    CONFIG_CPUS,     /* int64_t, billionths of a core */
    CONFIG_SHARE,    /* double, 0 to 1; less: unset */
    CONFIG_BOOL,     /* bool */
    CONFIG_TRISTATE, /* enum config_tristate */
    CONFIG_WORD,     /* an enum; `choices` in its order */
    CONFIG_ROUTES,
    CONFIG_HEALTH,
    CONFIG_QUIET,
    CONFIG_CERTIFICATES, /* struct config_certificates */
};

enum config_key_flags {
    CONFIG_IN_SPEC = 1, /* part of what a container is created with */
    CONFIG_FIXED = 2,   /* cannot change while running */
    CONFIG_CAPS = 4,    /* names of capabilities: kept in capitals, without CAP_ */
    CONFIG_UNIQUE = 8,  /* strings, or names of pairs: each once */
    /* Of the spec; may be changed by PUT beside what reaches out of the container. To be here it
     * must change nothing of what is run, as whom, with what, or of what others make of the
     * container: labels are not, for there are programs that run commands where a label asks for
     * it. */
    CONFIG_HARMLESS = 16,
};

/* NULL: fine; else words that say what is wrong with one string. */
typedef const char *config_check(const char *value);

struct config_key {
    const char *name;
    enum config_type type;
    size_t offset;       /* in struct config, or struct config_service */
    int64_t min, max;    /* both allowed */
    const char *def;     /* as one writes it behind the flag; NULL: none, or found out: def_words */
    const char *choices; /* "missing|always|never" */
    const char *none;    /* words beside the range, "auto|off"; also what unset prints as */
    int64_t none_value;  /* of the first word; the next is one more */
    size_t none_flag;    /* of a bool beside the value: the word was said; 0: the value tells */
    config_check *check;
    unsigned flags;
    const char *meta; /* what stands for the value in help: "DURATION" */
    const char *def_words;
    const char *words; /* one sentence without its stop */
};

/* Ended by a record without a name. */
extern const struct config_key config_top_keys[], config_service_keys[];
#define CONFIG_EACH_KEY(k, keys) for (const struct config_key *k = (keys); k->name; k++)
const struct config_key *config_key_find(const struct config_key *keys, const char *name);
/* The name of `keys` (or of more, which may be NULL) that `name` was meant to be; NULL: none is
 * near. */
const char *config_key_meant(const struct config_key *keys, const struct config_key *more,
                             const char *name);
/* What the key wants, as "a whole number from 1 to 64". */
void config_key_expects(const struct config_key *k, struct kg_buf *out);
const char *config_choice(const struct config_key *k, int index, size_t *n); /* NULL past the end */
const char *config_none(const struct config_key *k, int index, size_t *n);   /* of `none` alike */
bool config_key_is_list(const struct config_key *k);

/* --- places -------------------------------------------------------------------------------- */

enum config_source_kind {
    CONFIG_FROM_TEXT, /* JSON text with a name: a file, or a PUT */
    CONFIG_FROM_ENVIRONMENT,
    CONFIG_FROM_FLAGS,
    CONFIG_FROM_DEFAULTS,
};
/* Where the last fault of a text was. Most come in the text's order: the next one is looked for
 * from there, or thousands of faults would take minutes. */
#define CONFIG_MARKS 4 /* the document, its services, keys of one, items of a list */
struct config_marks {
    struct config_mark {
        const struct json *parent, *child;
        size_t index, at;
    } levels[CONFIG_MARKS];
    size_t at, line, column; /* line 0: none yet */
};

struct config_source {
    enum config_source_kind kind;
    const char *name;   /* of a text */
    struct kg_str text; /* of a text: what root was parsed from */
    const struct json *root;
    struct config_marks *marks; /* of this text alone; NULL: each fault is looked for anew */
};
/* Adds "PLACE: key: words" for a node of the source's tree. `below`: a key of the node that is
 * missing, or NULL. at_key: the place is that of the node's name, not of its value. */
void config_fail(struct config_errors *errors, const struct config_source *source,
                 const struct json *node, bool at_key, const char *below, const char *format, ...)
    __attribute__((format(printf, 6, 7)));
/* Adds one line that has no place. */
void config_fail_plain(struct config_errors *errors, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* config_locate.c: strict JSON, and where its parts are. */
/* NULL when the text is one JSON document; else what is wrong at *at. */
const char *config_locate_fault(struct kg_str text, size_t *at);
/* Where a node of the tree of this text is; its path ("services.a.env[1]") is appended. */
size_t config_locate_node(const struct config_source *source, const struct json *node, bool at_key,
                          struct kg_buf *path);
/* Both count from 1; columns are characters, not bytes. */
void config_locate_line(const struct config_source *source, size_t at, size_t *line,
                        size_t *column);
bool config_is_utf8(struct kg_str s);

/* --- parsing ------------------------------------------------------------------------------- */

struct config_draft { /* a service while it is made */
    struct config_service *service;
    const struct config_source *source; /* where it was first named; NULL: it was there before */
    const struct json *node;
    const struct config_source *options[2]; /* variables, flags that are about it, or NULL */
    bool needed;                            /* by another service */
    int visit;                              /* of config_needs.c */
    struct config_draft *leader;            /* likewise */
};
#define CONFIG_LAYERS 3 /* file, environment, flags: a later one wins */
struct config_loading {
    struct config *c;
    const struct config *running; /* what is in force meanwhile; NULL: nothing */
    const struct config_source *layers[CONFIG_LAYERS]; /* of top keys; NULL: none */
    struct config_errors *errors;
    struct config_draft *drafts;
    size_t count, cap;
};

/* Parses one value into the record's place in *into. False: told in errors. */
bool config_parse_value(const struct config_key *k, void *into, const struct json *value,
                        const struct config_source *source, struct config_errors *errors);
/* All members of an object of service keys. */
void config_parse_service(struct config_service *s, const struct json *object,
                          const struct config_source *source, struct config_errors *errors);
/* The whole of a file. */
void config_parse_file(struct config_loading *l, const struct config_source *source);
/* The draft of that name, or a new one. NULL: told in errors. */
struct config_draft *config_draft_find(const struct config_loading *l, const char *name);
struct config_draft *config_draft_add(struct config_loading *l, const char *name,
                                      const struct config_source *source, const struct json *node);
void config_drafts_free(struct config_loading *l); /* with the services still in it */

/* config_text.c: turns what stands behind a flag or in a variable into the member of an object. */
void config_text_set(struct json *object, const struct config_key *k, const char *const *texts,
                     size_t count);

/* config_check.c: the questions asked of single strings. */
config_check config_check_address, config_check_listen, config_check_protocol, config_check_admin,
    config_check_engine, config_check_owner, config_check_path, config_check_target,
    config_check_state_dir, config_check_image, config_check_env, config_check_label,
    config_check_volume, config_check_socket, config_check_cap, config_check_tmpfs,
    config_check_device, config_check_word, config_check_name;
/* Splits "host.name/prefix"; NULL and *out filled (owned), or what is wrong. */
const char *config_check_route(const char *text, struct config_route *out);
/* config_complete.c: once all layers are in: missing and contradictory values, routes, specs. Moves
 * the drafts into the configuration, sorted. */
void config_complete(struct config_loading *l);
void config_complete_top(struct config_loading *l, bool file_read);
/* config_tls.c: what listeners need, and what is in the files that are named. */
void config_complete_tls(struct config_loading *l);
/* Says it where the top key was given last: at one item of its list (-1: at the key), at one member
 * of that (NULL: at the item). */
void config_fail_top(struct config_loading *l, const char *key, int64_t index, const char *member,
                     const char *words);
bool config_top_given(const struct config_loading *l, const char *key); /* by any layer */
/* Says it at the member of that key, or at the service where it has none. */
void config_fail_key(struct config_loading *l, const struct config_draft *d, const char *key,
                     const char *words);
/* The same for one of the `count` items of a list. */
void config_fail_item(struct config_loading *l, const struct config_draft *d, const char *key,
                      size_t index, size_t count, const char *words);
/* config_needs.c: names that are no service, circles; marks the drafts that are needed, and names
 * the groups of those that are tied together. */
void config_check_needs(struct config_loading *l);
/* Makes a service's spec anew. False: no memory. */
bool config_make_spec(struct config_service *s);

/* config_options.c: environment and command line. */
struct config_options {
    char *file; /* --config, or its variable; NULL */
    bool file_named;
    char *service; /* the name of the service that flags and variables define; NULL: none */
    bool service_by_flag;
    struct json *env_top, *env_service, *flag_top, *flag_service; /* objects, never NULL */
};
/* False: no memory. Errors of spelling are told. */
bool config_options_read(struct config_options *o, int argc, char **argv,
                         struct config_errors *errors);
void config_options_fini(struct config_options *o);
/* One step over argv: the key behind an option, its value (NULL: a bare switch). Returns how many
 * words it took; 0 at the end; less
 * than 0: *wrong says why, and so many words are to be left out. */
struct config_option {
    const struct config_key *key; /* NULL: `plain` names it */
    const char *plain;            /* "config", "name", "help" */
    bool of_service;
    const char *value;
};
int config_option_next(int argc, char **argv, struct config_option *out, struct kg_buf *wrong);
/* KIPGATE_SOME_KEY of some_key, and --some-key. */
void config_variable_name(const char *key, char out[64]);
void config_flag_name(const char *key, char out[64]);

/* --- values -------------------------------------------------------------------------------- */

struct config_service *
config_service_new(const char *name); /* with all defaults; NULL: no memory */
void config_service_free(struct config_service *s);
struct config *config_new(void); /* with the constant defaults */
struct config *config_copy(const struct config *c);
bool config_strings_add(struct config_strings *s, const char *text, size_t n); /* copies */
bool config_strings_have(const struct config_strings *s, const char *text);
void config_strings_free(struct config_strings *s);
void config_routes_free(struct config_service *s);
bool config_routes_add(struct config_service *s,
                       struct config_route r); /* takes r's strings over */

void config_certificates_free(struct config_certificates *list);
bool config_certificates_add(struct config_certificates *list, const char *certificate,
                             const char *key, const char *ocsp); /* copies; false: no memory */
bool config_certificates_copy(struct config_certificates *to,
                              const struct config_certificates *from);
void config_certificates_print(struct json *object, const char *key,
                               const struct config_certificates *list);
/* "certificate:key[:ocsp]" as the object that a file has; NULL: it is not of that form. */
struct json *config_certificate_text(const char *text);

/* config_print.c; JSON trees to be freed by json_free. */
struct json *config_service_json(const struct config_service *s);
struct json *config_json(const struct config *c);
struct json *config_spec_json(const struct config_service *s);

/* config_document.c: what people and editors read about the keys, made from the records. */
void config_print_help(struct kg_buf *out);   /* the options, for a terminal */
void config_print_schema(struct kg_buf *out); /* JSON Schema of the file */
void config_print_manual(struct kg_buf *out); /* the manual page's part on the keys, in man(7) */

#endif
