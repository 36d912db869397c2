/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: which command, and those that ask nobody. The difficulty: options alone mean
 * serve, so a misspelled command must be told from them. */
#include "orchestrator/cli.h"
#include "orchestrator/cli_priv.h"
#include "orchestrator/config_priv.h"
#include <stdio.h>
#include <stdlib.h>

#define MAX_TEXT_BYTES (1024 * 1024)

int cli_written(bool good)
{
    good &= fflush(stdout) == 0 && !ferror(stdout);
    if (!good)
        fputs("kipgate: standard output cannot be written\n", stderr);
    return good ? CLI_FINE : CLI_FAILED;
}

static int print(struct kg_buf *out)
{
    bool good = out->data && fwrite(out->data, 1, out->len, stdout) == out->len && !out->error;

    kg_buf_fini(out);
    return cli_written(good);
}

/* --- help, version, check ------------------------------------------------------------------ */

static const char help_rest[] =
    "\n"
    "One service needs no file:\n"
    "  kipgate --image h2non/imaginary --port 9000\n"
    "\n"
    "Each option --some-key is the key \"some_key\" of the file and the variable "
    "KIPGATE_SOME_KEY.\n"
    "File < environment < option. Durations: 250ms 30s 5m 1h. Sizes: 64KiB 512MiB. Lists (...):\n"
    "repeat the option; in a variable a JSON array, or the only item.\n"
    "Exit status: 0 fine, 1 failed, 2 usage or configuration error.\n"
    "Signals: TERM and INT drain, a second one ends at once; HUP reads the configuration again.\n"
    "\n";

static int run_help(const struct cli_command *command, int argc, char **argv)
{
    struct kg_buf out;

    (void)command;
    (void)argc;
    (void)argv;
    kg_buf_init(&out, MAX_TEXT_BYTES);
    kg_buf_puts(&out, "Kipgate starts a container when a request comes, and removes it when nobody "
                      "has used it.\n\n");
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        char left[64];
        snprintf(left, sizeof left, "kipgate %s%s%s", c->name, *c->operands ? " " : "",
                 c->operands);
        kg_buf_printf(&out, "  %-28s %s\n", left, c->words);
    }
    kg_buf_puts(&out, help_rest);
    config_print_help(&out);
    return print(&out);
}

static int run_version(const struct cli_command *command, int argc, char **argv)
{
    struct kg_buf out;

    (void)argv;
    if (argc > 0) {
        fprintf(stderr, "kipgate %s: takes no arguments\n", command->name);
        return CLI_USAGE;
    }
    kg_buf_init(&out, MAX_TEXT_BYTES);
    kg_buf_puts(&out, "kipgate " KIPGATE_VERSION "\n");
    return print(&out);
}

static int check_configuration(int argc, char **argv)
{
    struct config_errors errors = {0};
    struct config *c = config_load(argc, argv, NULL, &errors);
    struct kg_buf out;
    int status = CLI_USAGE;

    kg_buf_init(&out, KG_MAX_CONFIG_BYTES);
    if (c) {
        config_print_loosened(c, &out);
        fputs(out.data ? out.data : "", stderr);
        kg_buf_clear(&out);
        config_print(c, &out);
        status = print(&out);
    } else {
        fputs(errors.text.data ? errors.text.data : "out of memory\n", stderr);
    }
    kg_buf_fini(&out);
    config_errors_fini(&errors);
    config_free(c);
    return status;
}

static int run_check(const struct cli_command *command, int argc, char **argv)
{
    struct kg_buf out;

    (void)command;
    if (argc != 1 || (strcmp(argv[0], "--schema") != 0 && strcmp(argv[0], "--manual") != 0))
        return check_configuration(argc, argv);
    kg_buf_init(&out, MAX_TEXT_BYTES);
    if (strcmp(argv[0], "--schema") == 0)
        config_print_schema(&out);
    else
        cli_print_manual(&out);
    return print(&out);
}

static int run_serve(const struct cli_command *command, int argc, char **argv)
{
    (void)command;
    (void)argc;
    (void)argv;
    return CLI_NOT_OURS;
}

/* --- which command ------------------------------------------------------------------------- */

const struct cli_command cli_commands[] = {
    {"serve", "[OPTIONS]", "run the front (also without the word)", run_serve, 0},
    {"check", "[OPTIONS]", "validate the configuration, print the effective one as JSON", run_check,
     0},
    {"check", "--schema", "print the JSON Schema of the file", run_check, 0},
    {"check", "--manual", "print the manual page", run_check, 0},
    {"ps", "[--json]", "services and instances", cli_run_client, CLI_TAKES_JSON},
    {"wake", "NAME", "provision now, return when ready", cli_run_client, CLI_WANTS_NAME},
    {"sleep", "NAME", "drain and remove now", cli_run_client, CLI_WANTS_NAME},
    {"events", "[--json]", "follow what happens, one line per event", cli_run_client,
     CLI_TAKES_JSON},
    {"health", "[--ready]", "exit 0 when alive (ready)", cli_run_client, CLI_TAKES_READY},
    {"version", "", "print the version", run_version, 0},
    {"help", "", "print this", run_help, 0},
    {NULL, NULL, NULL, NULL, 0},
};

/* --help stands among the options, and not as the value of one. */
static bool wants_help(int argc, char **argv)
{
    struct config_option option;
    struct kg_buf wrong;
    bool wanted = false;
    int took;

    kg_buf_init(&wrong, MAX_TEXT_BYTES);
    while (!wanted && (took = config_option_next(argc, argv, &option, &wrong)) != 0) {
        wanted = took > 0 && option.plain && strcmp(option.plain, "help") == 0;
        argc -= abs(took);
        argv += abs(took);
    }
    kg_buf_fini(&wrong);
    return wanted;
}

static const struct cli_command *find_command(const char *name)
{
    for (const struct cli_command *c = cli_commands; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

int cli_options_at(int argc, char **argv)
{
    if (argc < 2)
        return argc;
    return strcmp(argv[1], "serve") == 0 ? 2 : 1;
}

int cli_run(int argc, char **argv)
{
    bool named = argc > 1 && argv[1][0] != '-';
    const char *name = named ? argv[1] : "serve";
    const struct cli_command *command;
    int at = named ? 2 : argc < 2 ? argc : 1;

    if (argc == 2 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0))
        return run_version(NULL, 0, NULL);
    command = find_command(name);
    if (!command) {
        fprintf(stderr, "kipgate: there is no command \"%s\"; kipgate --help lists them\n", name);
        return CLI_USAGE;
    }
    if (wants_help(argc - at, argv + at))
        return run_help(command, 0, NULL);
    return command->run(command, argc - at, argv + at);
}
