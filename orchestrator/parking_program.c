/* SPDX-License-Identifier: Apache-2.0 */
/* The program in a sandbox: a whole ELF file of two screens, assembled with the rest of us. It
 * waits for TERM or INT, and ends. The difficulty: it is process 1 there, to which signals without
 * a handler do not happen: so they are blocked, and waited for. */
#include "orchestrator/parking_program.h"

/* The file as the kernel reads it: header, two program headers (all of it, readable and executable;
 * and a stack that is not executable), code. %MACHINE% is e_machine. */
#define ELF_BEGIN(machine)                                                                         \
    ".pushsection .rodata, \"a\"\n"                                                                \
    ".balign 16\n"                                                                                 \
    ".globl parking_program_begin, parking_program_end\n"                                          \
    ".hidden parking_program_begin, parking_program_end\n"                                         \
    "parking_program_begin:\n"                                                                     \
    "  .byte 0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0\n"                            \
    "  .2byte 2, " machine "\n"                                                                    \
    "  .4byte 1\n"                                                                                 \
    "  .8byte 0x400000 + 176, 64, 0\n" /* entry, program headers, no section headers */            \
    "  .4byte 0\n"                                                                                 \
    "  .2byte 64, 56, 2, 64, 0, 0\n"                                                               \
    "  .4byte 1, 5\n"                                                                              \
    "  .8byte 0, 0x400000, 0x400000\n"                                                             \
    "  .8byte parking_program_end - parking_program_begin\n"                                       \
    "  .8byte parking_program_end - parking_program_begin\n"                                       \
    "  .8byte 0x10000\n"                                                                           \
    "  .4byte 0x6474e551, 6\n"                                                                     \
    "  .8byte 0, 0, 0, 0, 0, 16\n"
#define ELF_END                                                                                    \
    "  .balign 8\n"                                                                                \
    "9: .8byte 0x4002\n" /* the set of signals: TERM and INT */                                    \
    "parking_program_end:\n"                                                                       \
    "  .byte 0\n"                                                                                  \
    ".popsection\n"

#if defined(__x86_64__)
#define HAS_PROGRAM 1
__asm__(ELF_BEGIN("62") "  movl $14, %eax\n" /* rt_sigprocmask(SIG_BLOCK, set, NULL, 8) */
                        "  xorl %edi, %edi\n"
                        "  leaq 9f(%rip), %rsi\n"
                        "  xorl %edx, %edx\n"
                        "  movl $8, %r10d\n"
                        "  syscall\n"
                        "1: movl $128, %eax\n" /* rt_sigtimedwait(set, NULL, NULL, 8) */
                        "  leaq 9f(%rip), %rdi\n"
                        "  xorl %esi, %esi\n"
                        "  xorl %edx, %edx\n"
                        "  movl $8, %r10d\n"
                        "  syscall\n"
                        "  cmpq $-4, %rax\n" /* interrupted, as by a stop and go */
                        "  je 1b\n"
                        "  movl $231, %eax\n" /* exit_group(0) */
                        "  xorl %edi, %edi\n"
                        "  syscall\n" ELF_END);
#elif defined(__aarch64__) && !defined(__AARCH64EB__)
#define HAS_PROGRAM 1
__asm__(ELF_BEGIN("183") "  mov x8, 135\n" /* as above, by this machine's numbers */
                         "  mov x0, 0\n"
                         "  adr x1, 9f\n"
                         "  mov x2, 0\n"
                         "  mov x3, 8\n"
                         "  svc 0\n"
                         "1: mov x8, 137\n"
                         "  adr x0, 9f\n"
                         "  mov x1, 0\n"
                         "  mov x2, 0\n"
                         "  mov x3, 8\n"
                         "  svc 0\n"
                         "  cmn x0, 4\n"
                         "  b.eq 1b\n"
                         "  mov x8, 94\n"
                         "  mov x0, 0\n"
                         "  svc 0\n" ELF_END);
#else
#define HAS_PROGRAM 0
#endif

#if HAS_PROGRAM
extern const char parking_program_begin[], parking_program_end[];

struct kg_str parking_program(void)
{
    return (struct kg_str){parking_program_begin,
                           (size_t)(parking_program_end - parking_program_begin)};
}
#else
struct kg_str parking_program(void)
{
    return (struct kg_str){"", 0};
}
#endif
