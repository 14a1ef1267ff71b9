// Starts a program as vfork(2) does: the calling thread sleeps until exec has succeeded or failed, and no memory is copied. posix_spawn(3)
// supports neither cgroups nor limits.

#define _GNU_SOURCE
#include "clinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// The soft limit on open files that this process was started with; RLIM_INFINITY: it has not been raised.
static rlim_t open_files = RLIM_INFINITY;

void clinux_raise_open_files(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0) open_files = before;
}

// The child's arguments and error, in memory shared with the parent until the exec.
struct start {
    const struct clinux_program *program;
    int cgroup;
    int fault;
};

static _Noreturn void refuse(struct start *start) {
    start->fault = errno;
    _exit(127);
}

static void put(struct start *start, int file, int place) {
    // dup2(2) to the same descriptor would keep FD_CLOEXEC.
    if ((file == place ? fcntl(file, F_SETFD, 0) : dup2(file, place)) < 0) refuse(start);
}

static void put_files(struct start *start) {
    const struct clinux_program *program = start->program;
    int input = program->input < 0 ? open("/dev/null", O_RDONLY) : program->input;
    if (input < 0) refuse(start);
    put(start, program->output, STDOUT_FILENO);
    put(start, program->error, STDERR_FILENO);
    put(start, input, STDIN_FILENO);
    int end = STDERR_FILENO + 1;
    if (program->reports >= 0)
        for (end = CLINUX_REPORTS; end < CLINUX_REPORTS_END; end++) put(start, program->reports, end);
    if (close_range((unsigned)end, ~0u, 0) != 0) refuse(start);
}

static void give_back_open_files(struct start *start) {
    struct rlimit limit;
    if (open_files == RLIM_INFINITY) return;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) refuse(start);
    limit.rlim_cur = open_files < limit.rlim_max ? open_files : limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) refuse(start);
}

// The write may wait 10 to 20 ms for a grace period of the kernel (docs/design.md, Cost): only where start_in_cgroup cannot.
static void enter_cgroup(struct start *start) {
    if (start->cgroup < 0) return;
    int file = openat(start->cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, "0", 1) != 1) {
        // Not to be taken for a missing program.
        if (errno == ENOENT || errno == ENODEV) errno = EIDRM;
        refuse(start);
    }
    close(file);
}

static int end_in_cgroup(void *argument) {
    enter_cgroup(argument);
    _exit(0);
}

static int become_program(void *argument) {
    struct start *start = argument;
    const struct clinux_program *program = start->program;
    // Zero in all members of the kernel's structure is SIG_DFL. Not by sigaction(3): since glibc 2.41 that takes a lock for SIGABRT, which is in
    // memory shared with the parent, or which a thread held that is not in this process (_Fork), and then it would wait for ever.
    static const unsigned long standard[4];
    // Errors are ignored: SIGKILL and SIGSTOP cannot be changed.
    for (int number = 1; number < NSIG; number++) syscall(SYS_rt_sigaction, number, standard, NULL, (NSIG - 1) / 8);
    enter_cgroup(start);
    if (program->dies_with_parent && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) refuse(start);
    if (setsid() < 0 || fchdir(program->directory) != 0) refuse(start);
    put_files(start);
    // Last: this process may have more files open than the program's limit.
    give_back_open_files(start);
    sigset_t none;
    sigemptyset(&none);
    if (sigprocmask(SIG_SETMASK, &none, NULL) != 0) refuse(start);
    execve(program->path, program->arguments, program->environment);
    refuse(start);
}

// Calls clone3(2), and in the new process `child`, which never returns and has a stack of its own.
static long clone_into(struct clone_args *arguments, int (*child)(void *), void *argument) {
#if defined(__x86_64__)
    long result = SYS_clone3;
    __asm__ volatile("syscall\n\t"
                     "testq %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "movq %[argument], %%rdi\n\t"
                     "callq *%[child]\n\t"
                     "hlt\n"
                     "1:"
                     : "+a"(result)
                     : "D"(arguments), "S"(sizeof *arguments), [child] "r"(child), [argument] "r"(argument)
                     : "rcx", "r11", "cc", "memory");
    return result;
#elif defined(__aarch64__)
    register long result __asm__("x0") = (long)arguments;
    register long size __asm__("x1") = sizeof *arguments;
    register long number __asm__("x8") = SYS_clone3;
    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x0, %[argument]\n\t"
                     "blr %[child]\n\t"
                     "brk #0\n"
                     "1:"
                     : "+r"(result)
                     : "r"(size), "r"(number), [child] "r"(child), [argument] "r"(argument)
                     : "cc", "memory");
    return result;
#else
    return -ENOSYS;
#endif
}

// Starts the child inside its cgroup, so that nothing waits (glibc has no function for that before 2.39).
// Returns a negative number where it cannot: RestrictNamespaces= of systemd and the filters of containers forbid clone3(2), whose flags they do not see.
static int start_in_cgroup(int (*child)(void *), struct start *start, int *handle, void *stack, size_t size) {
    if (start->cgroup < 0) return -1;
    int cgroup = start->cgroup;
    struct clone_args arguments = {
        .flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_INTO_CGROUP,
        .pidfd = (uintptr_t)handle,
        .exit_signal = SIGCHLD,
        .stack = (uintptr_t)stack,
        .stack_size = size,
        .cgroup = (unsigned)cgroup,
    };
    start->cgroup = -1;
    long process = clone_into(&arguments, child, start);
    start->cgroup = cgroup;
    return (int)process;
}

static int start_child(int (*child)(void *), struct start *start, int *handle) {
    char stack[32 * 1024] __attribute__((aligned(16)));
    sigset_t all, before;
    sigfillset(&all);
    // A signal handler must not run in the child, which shares this thread's memory.
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int process = start_in_cgroup(child, start, handle, stack, sizeof stack);
    if (process < 0)
        process = clone(child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, start, handle);
    int fault = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = fault;
    return process;
}

static void reap(int process, int handle) {
    while (waitpid(process, NULL, 0) < 0 && errno == EINTR) {
    }
    close(handle);
}

int clinux_spawn(int *process, int *handle, const struct clinux_program *program) {
    struct start start = {.program = program, .cgroup = program->cgroup};
    *process = start_child(become_program, &start, handle);
    if (*process < 0) return errno;
    if (start.fault != 0) reap(*process, *handle);
    return start.fault;
}

int clinux_try_cgroup(int cgroup) {
    int handle;
    struct start start = {.cgroup = cgroup};
    int process = start_child(end_in_cgroup, &start, &handle);
    if (process < 0) return errno;
    reap(process, handle);
    return start.fault;
}
