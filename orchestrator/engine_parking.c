/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes as the engine sees them: an image of one file, made from our own program, and the calls
 * about it. The difficulty: no registry is to be asked for it, so it is imported, under a name made
 * of what is in it. */
#include "base/log.h"
#include "orchestrator/digest.h"
#include "orchestrator/engine_priv.h"
#include "orchestrator/parking_program.h"
#include <stdio.h>

#define TAR_BLOCK 512
#define TAG_DIGITS 12
#define HOSTNAME_DIGITS 12

/* --- the image ---------------------------------------------------------------------------- */

/* An archive's head of one file (POSIX ustar); the sum is taken with blanks in its own place. */
static void put_head(struct kg_buf *out, size_t n)
{
    char head[TAR_BLOCK] = PARKING_PROGRAM_NAME;
    unsigned sum = 0;

    snprintf(head + 100, 8, "%07o", 0555);
    snprintf(head + 108, 8, "%07o", 0);
    snprintf(head + 116, 8, "%07o", 0);
    snprintf(head + 124, 12, "%011zo", n);
    snprintf(head + 136, 12, "%011o", 0); /* no time: the same program is the same image */
    memset(head + 148, ' ', 8);
    head[156] = '0';
    memcpy(head + 257, "ustar\00000", 8);
    for (size_t i = 0; i < sizeof head; i++)
        sum += (unsigned char)head[i];
    snprintf(head + 148, 7, "%06o", sum);
    kg_buf_append(out, head, sizeof head);
}

void engine_parking_archive(struct kg_buf *out)
{
    static const char zeros[2 * TAR_BLOCK];
    struct kg_str program = parking_program();

    put_head(out, program.n);
    kg_buf_append(out, program.p, program.n);
    kg_buf_append(out, zeros, (TAR_BLOCK - program.n % TAR_BLOCK) % TAR_BLOCK);
    kg_buf_append(out, zeros, sizeof zeros);
}

static void tag_of_program(char tag[TAG_DIGITS + 1])
{
    char hex[65];

    digest_sha256_hex(parking_program(), hex);
    kg_str_copy(tag, TAG_DIGITS + 1, (struct kg_str){hex, TAG_DIGITS});
}

static void on_imported(void *arg, const struct transport_answer *a)
{
    struct op *op = arg;
    struct engine *e = op->engine;
    bool refused = a->refused && a->code == KG_ECLOSED;
    char words[sizeof op->answer.words];

    op->call = 0;
    engine_judge(KIND_PARK, a, &op->answer);
    if (op->answer.code == 0) { /* of an error that came after the status the create tells */
        engine_op_create(op);
        return;
    }
    memcpy(words, op->answer.words, sizeof words);
    engine_op_end(op);
    if (refused)
        engine_lost(e, words);
}

bool engine_import(struct op *op)
{
    char tag[TAG_DIGITS + 1], path[128];
    struct engine_request r = {.method = "POST", .path = path, .on_done = on_imported};
    struct kg_buf archive;

    if (op->kind != KIND_PARK || op->imported || op->answer.code != KG_ENOTFOUND)
        return false;
    op->imported = true;
    tag_of_program(tag);
    snprintf(path, sizeof path, "/images/create?fromSrc=-&repo=" PARKING_PROGRAM_NAME "&tag=%s",
             tag);
    KG_LOG(KG_LOG_INFO, "sandbox-image", KG_F("image", PARKING_PROGRAM_NAME), KG_F("tag", tag));
    kg_buf_init(&archive, 64 * 1024);
    engine_parking_archive(&archive);
    r.tar = kg_buf_str(&archive);
    if (archive.error)
        r.path = NULL;
    engine_op_send(op, &r);
    kg_buf_fini(&archive);
    return true;
}

/* --- the calls ---------------------------------------------------------------------------- */

/* Through a published port only what has a network of its own can be reached. */
static bool verb_usable(void *self)
{
    const struct engine *e = self;

    return parking_program().n > 0 &&
           (e->reach.kind == REACH_ADDRESS || e->reach.kind == REACH_NETWORK);
}

static uint64_t verb_make(void *self, const char *name, engine_done *done, void *arg)
{
    struct op *op = engine_op_new(self, KIND_PARK, done, arg, KG_ENGINE_CALL_TIMEOUT_MS);
    uint64_t number = op ? op->number : 0;
    char tag[TAG_DIGITS + 1], image[64], hostname[HOSTNAME_DIGITS + 1];
    struct engine_ground ground;
    char address[INET_ADDRSTRLEN];
    struct kg_buf text;

    if (!op || engine_op_refuse(op, name) != 0)
        return number;
    kg_str_copy(op->name, sizeof op->name, kg_str_of(name));
    tag_of_program(tag);
    snprintf(image, sizeof image, PARKING_PROGRAM_NAME ":%s", tag);
    digest_random_hex(hostname, HOSTNAME_DIGITS);
    engine_ground_alone(op->engine, &ground, address);
    kg_buf_init(&text, 64 * 1024);
    engine_body_sandbox(name, image, hostname, &ground, &text);
    op->text = kg_buf_take(&text);
    if (op->text)
        engine_op_create(op);
    else
        engine_op_fail(op, KG_ENOMEM, "out of memory");
    return number;
}

static uint64_t verb_ask(void *self, const char *id_or_name, engine_done *done, void *arg)
{
    struct op *op = engine_op_new(self, KIND_INSPECT, done, arg, KG_ENGINE_CALL_TIMEOUT_MS);
    uint64_t number = op ? op->number : 0;

    if (!op || engine_op_refuse(op, id_or_name) != 0)
        return number;
    kg_str_copy(op->name, sizeof op->name, kg_str_of(id_or_name));
    op->asks_sandbox = true;
    engine_op_inspect(op);
    return number;
}

static uint64_t verb_join(void *self, const struct config_service *s, const char *name,
                          const char *sandbox_id, engine_done *done, void *arg)
{
    return engine_create(self, s, name, sandbox_id, done, arg);
}

void engine_parking_init(struct engine *e)
{
    e->parking = (struct engine_parking_ops){
        .self = e, .usable = verb_usable, .make = verb_make, .ask = verb_ask, .join = verb_join};
}
