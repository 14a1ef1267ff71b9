// Runs inside the sandbox in which a backup is copied (CopySandbox of BackupService builds it), in one of two roles:
//
//   prov-backup-confine UID GID MEMORY NICE PROGRAM [ARGUMENT...]
//       becomes user 0 of a user namespace that maps 0 to the account's UID and GID and maps no other ids, and executes PROGRAM.
//       It has root's rights over this account's files and no rights over others. UID "-": no namespace.
//       MEMORY: the most address space of PROGRAM and of each process that it starts, in bytes; 0: no limit. NICE: 0 to 19.
//
//   prov-backup-confine -OPTION...
//       replaces rsync (cmd_rsync of rsnapshot): runs the rsync of the environment variable PROV_RSYNC with all arguments,
//       as the user PROV_UID and the group PROV_GID if these are set, reports its exit status, and exits with 0, so that rsnapshot does
//       not remove an unfinished copy.
//
// Reports go to descriptor 4, one line each: "entered", "rsync exited CODE", "rsync killed SIGNAL", "fault ...". Exit status: that of
// the program; 126 when the program was not started.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REPORTS = 4, NOT_STARTED = 126 };

__attribute__((format(printf, 1, 2))) static void report(const char *format, ...) {
    va_list values;
    va_start(values, format);
    // The pipe is read at the end, and is large enough for these few lines.
    if (vdprintf(REPORTS, format, values) < 0) _exit(NOT_STARTED);
    va_end(values);
}

static _Noreturn void fail(const char *call) {
    report("fault %s: %s\n", call, strerror(errno));
    _exit(NOT_STARTED);
}

// Parses a decimal number from 0 to the greatest.
static unsigned long long number(const char *text, unsigned long long greatest) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno == 0 && (*text < '0' || *text > '9' || *end != 0 || value > greatest)) errno = EINVAL;
    if (errno != 0) fail(text);
    return value;
}

static void map(pid_t process, const char *file, const char *id) {
    char path[64], line[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)process, file);
    int length = snprintf(line, sizeof line, "0 %s 1", id);
    int map = open(path, O_WRONLY | O_CLOEXEC);
    if (map < 0 || write(map, line, (size_t)length) != length) fail(file);
    close(map);
}

// Only a process outside the namespace, with root's rights there, may map an id that is not its own.
static void become(const char *uid, const char *gid) {
    pid_t process = getpid();
    int made[2];
    if (pipe2(made, O_CLOEXEC) != 0) fail("pipe");
    pid_t mapper = fork();
    if (mapper < 0) fail("fork");
    if (mapper == 0) {
        char byte;
        close(made[1]);
        if (read(made[0], &byte, 1) != 1) _exit(NOT_STARTED);
        map(process, "uid_map", uid);
        map(process, "gid_map", gid);
        _exit(0);
    }
    close(made[0]);
    if (unshare(CLONE_NEWUSER) != 0) fail("unshare(CLONE_NEWUSER)");
    if (write(made[1], "", 1) != 1) fail("write");
    close(made[1]);
    int status;
    if (waitpid(mapper, &status, 0) != mapper) fail("waitpid");
    if (status != 0) _exit(NOT_STARTED); // It has reported why.
    if (setgroups(0, NULL) != 0) fail("setgroups");
    if (setresgid(0, 0, 0) != 0) fail("setresgid");
    if (setresuid(0, 0, 0) != 0) fail("setresuid");
}

// Limits and priorities that are narrower already stay as they are: without capabilities they cannot be widened.
static void limit(rlim_t memory, int nice) {
    struct rlimit none = {0, 0}, space;
    if (setrlimit(RLIMIT_CORE, &none) != 0) fail("setrlimit(RLIMIT_CORE)");
    if (getrlimit(RLIMIT_AS, &space) != 0) fail("getrlimit(RLIMIT_AS)");
    if (memory < space.rlim_max) space.rlim_max = memory;
    space.rlim_cur = space.rlim_max;
    if (memory != 0 && setrlimit(RLIMIT_AS, &space) != 0) fail("setrlimit(RLIMIT_AS)");
    errno = 0;
    int now = getpriority(PRIO_PROCESS, 0);
    if (errno != 0) fail("getpriority");
    if (now < nice && setpriority(PRIO_PROCESS, 0, nice) != 0) fail("setpriority");
    // Of IOPRIO_WHO_PROCESS (1), this one: class idle (3), or best effort (2) at the lowest of its levels (7). Schedulers without classes
    // ignore it.
    if (nice == 0 || syscall(SYS_ioprio_get, 1, 0) >> 13 == 3) return;
    if (syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 7) != 0) fail("ioprio_set");
}

static int enter(char **argv) {
    limit(number(argv[3], RLIM_INFINITY), (int)number(argv[4], 19));
    if (strcmp(argv[1], "-") != 0) {
        number(argv[1], 4294967294u);
        number(argv[2], 4294967294u);
        become(argv[1], argv[2]);
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail("prctl(PR_SET_NO_NEW_PRIVS)");
    report("entered\n");
    execv(argv[5], argv + 5);
    fail(argv[5]);
}

static void become_user(const char *user, const char *group) {
    gid_t gid = (gid_t)number(group, 4294967294u);
    uid_t uid = (uid_t)number(user, 4294967294u);
    if (setgroups(0, NULL) != 0) fail("setgroups");
    if (setresgid(gid, gid, gid) != 0) fail("setresgid");
    if (setresuid(uid, uid, uid) != 0) fail("setresuid");
}

static int run_rsync(char **argv) {
    const char *rsync = getenv("PROV_RSYNC"), *user = getenv("PROV_UID"), *group = getenv("PROV_GID");
    if (rsync == NULL) {
        errno = EINVAL;
        fail("PROV_RSYNC");
    }
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        fcntl(REPORTS, F_SETFD, FD_CLOEXEC);
        if (user != NULL && group != NULL) become_user(user, group);
        argv[0] = (char *)rsync;
        execv(rsync, argv);
        fail(rsync);
    }
    int status;
    while (waitpid(child, &status, 0) != child)
        if (errno != EINTR) fail("waitpid");
    if (WIFSIGNALED(status)) report("rsync killed %d\n", WTERMSIG(status));
    else report("rsync exited %d\n", WEXITSTATUS(status));
    return 0;
}

int main(int argc, char **argv) {
    if (argc >= 2 && argv[1][0] == '-' && argv[1][1] != 0) return run_rsync(argv);
    if (argc >= 6) return enter(argv);
    fprintf(stderr, "usage: prov-backup-confine UID GID MEMORY NICE PROGRAM [ARGUMENT...]\n");
    return 64;
}
