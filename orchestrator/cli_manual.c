/* SPDX-License-Identifier: Apache-2.0 */
/* The manual page, packaging/kipgate.8: prose here, commands and keys from their tables.
 * The difficulty: troff takes a dot or a quote at a line's begin for a request of its own. */
#include "orchestrator/cli_priv.h"
#include "orchestrator/config_priv.h"

static const char beginning[] =
    ".\\\" SPDX-License-Identifier: Apache-2.0\n"
    ".\\\" Made by `kipgate check --manual`; a test compares.\n"
    ".TH KIPGATE 8 \"\" \"Kipgate\" \"System Administration\"\n"
    ".SH NAME\n"
    "kipgate \\- starts a container when a request comes, removes it when nobody uses it\n"
    ".SH SYNOPSIS\n"
    ".nf\n";

static const char description[] =
    ".fi\n"
    ".SH DESCRIPTION\n"
    "A client calls one HTTP endpoint. Kipgate looks whether the worker container behind it runs,\n"
    "creates it through the Docker Engine API if it does not, holds the request until the worker\n"
    "is ready, forwards it, and removes the container once nobody has used it for the service's\n"
    "idle_timeout.\n"
    ".PP\n"
    "One service needs no file:\n"
    ".PP\n"
    ".RS\n"
    "kipgate \\-\\-image h2non/imaginary \\-\\-port 9000\n"
    ".RE\n"
    ".SH COMMANDS\n";

static const char configuration[] =
    ".SH CONFIGURATION\n"
    "Each key can be set in a JSON file (\\-\\-config FILE, KIPGATE_CONFIG, else\n"
    "/etc/kipgate/kipgate.json if it is there), by a variable (some_key is KIPGATE_SOME_KEY), and\n"
    "by an option (\\-\\-some\\-key VALUE or \\-\\-some\\-key=VALUE); the later of these wins. "
    "Options\n"
    "and variables of service keys make one service, named by \\-\\-name or else after its image, "
    "or\n"
    "change the one of the file that has the name. A list is given by repeating the option; in a\n"
    "variable as a JSON array, or as its only item. Empty variables count as unset.\n"
    ".PP\n"
    "All errors of a configuration are told in one run, each with its place, and nothing is\n"
    "started.\n";

static const char ending[] =
    ".SH SIGNALS\n"
    ".TP\n"
    ".BR SIGTERM \", \" SIGINT\n"
    "No new requests are taken, open exchanges may end within drain_timeout; instances are left "
    "to\n"
    "the next start unless remove_on_exit is set. A second one ends at once, or as soon as they\n"
    "are removed.\n"
    ".TP\n"
    ".B SIGHUP\n"
    "The configuration is read again, without dropping anything. With errors the old one stays.\n"
    ".TP\n"
    ".B SIGUSR2\n"
    "The control process becomes what its program's file is now, under the same process id. The\n"
    "front processes go on, keep what waits, and attach to it: no request fails. Where that\n"
    "program does not take the configuration, or does not say so within 10 seconds, nothing\n"
    "changes, and the log says so. Fronts attach likewise to a control that was started within 30\n"
    "seconds after the one before was killed.\n"
    ".SH ENVIRONMENT\n"
    "Beside KIPGATE_SOME_KEY: DOCKER_HOST, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH, DOCKER_CONFIG\n"
    "(credentials for pulls), STATE_DIRECTORY, XDG_STATE_HOME, HOME.\n"
    ".SH EXIT STATUS\n"
    "0 fine, 1 failed at run time, 2 usage or configuration error.\n"
    ".SH FILES\n"
    ".TP\n"
    ".I /etc/kipgate/kipgate.json\n"
    "The configuration, where none is named.\n"
    ".TP\n"
    ".I /var/lib/kipgate\n"
    "The owner's name, its key and the idle clocks, where no other state_dir is set.\n"
    ".SH SEE ALSO\n"
    ".BR docker (1),\n"
    ".BR systemd.socket (5)\n";

static void put_plain(struct kg_buf *out, const char *text)
{
    for (; *text; text++) {
        kg_buf_puts(out, *text == '-' ? "\\" : "");
        kg_buf_append(out, text, 1);
    }
}

void cli_print_manual(struct kg_buf *out)
{
    kg_buf_puts(out, beginning);
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        kg_buf_printf(out, "kipgate %s ", c->name);
        put_plain(out, c->operands);
        kg_buf_puts(out, "\n");
    }
    kg_buf_puts(out, description);
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        kg_buf_printf(out, ".TP\n.B %s ", c->name);
        put_plain(out, c->operands);
        kg_buf_puts(out, "\n");
        put_plain(out, c->words);
        kg_buf_puts(out, "\n");
    }
    kg_buf_puts(out, configuration);
    config_print_manual(out);
    kg_buf_puts(out, ending);
}
