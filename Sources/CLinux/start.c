// How a script becomes another user and drops all rights.
//
// clinux_spawn does none of this between fork and exec, and a shell in between would change the environment. So the program executes itself
// under another name (/proc/self/exe, argument 0 CLINUX_START): the constructor below recognises the name, drops the rights of its own
// process, verifies that, and executes the script. It never reaches main.

#define _GNU_SOURCE
#include "clinux.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static gid_t groups[NGROUPS_MAX];
static gid_t found[NGROUPS_MAX];

// The next number of the instructions, which are separated by blanks.
static unsigned long long number(char **rest) { return strtoull(*rest, rest, 10); }

static void send_report(int report, int step, int number, int detail) {
    struct clinux_start_report message = {.step = step, .number = number, .detail = detail};
    // A message of this size fits into an empty pipe. If the write fails, the parent has ended.
    if (write(report, &message, sizeof message) != sizeof message) _exit(127);
}

static _Noreturn void fail(int report, int step, int detail) {
    send_report(report, step, errno, detail);
    _exit(127);
}

static int by_number(const void *left, const void *right) {
    gid_t a = *(const gid_t *)left, b = *(const gid_t *)right;
    return a < b ? -1 : a > b;
}

static int capability_exists(int capability) { return prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; }

// Drops all rights permanently. A process that ends with its parent still does: the kernel forgets that when the user changes.
static void drop(int report, uid_t user, gid_t group, size_t count) {
    // First, while that is permitted: rights that a later exec must not restore.
    for (int capability = 0; capability_exists(capability); capability++)
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) fail(report, CLINUX_START_CAPABILITIES, capability);
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) fail(report, CLINUX_START_CAPABILITIES, -1);
    int end_with_parent;
    pid_t parent = getppid();
    if (prctl(PR_GET_PDEATHSIG, &end_with_parent, 0, 0, 0) != 0) fail(report, CLINUX_START_USER, 0);
    if (setgroups(count, groups) != 0) fail(report, CLINUX_START_GROUPS, 0);
    if (setresgid(group, group, group) != 0) fail(report, CLINUX_START_GROUPS, 0);
    if (setresuid(user, user, user) != 0) fail(report, CLINUX_START_USER, 0);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    if (syscall(SYS_capset, &header, none) != 0) fail(report, CLINUX_START_CAPABILITIES, -1);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail(report, CLINUX_START_CAPABILITIES, -1);
    if (prctl(PR_SET_PDEATHSIG, end_with_parent, 0, 0, 0) != 0) fail(report, CLINUX_START_USER, 0);
    if (end_with_parent != 0 && getppid() != parent) _exit(127);
}

// Returns 0 if all rights are dropped, else the number of the condition that does not hold.
static int proof(uid_t user, gid_t group, size_t count) {
    uid_t real_user, effective_user, saved_user;
    if (getresuid(&real_user, &effective_user, &saved_user) != 0 || user == 0 || real_user != user ||
        effective_user != user || saved_user != user)
        return 1;
    gid_t real_group, effective_group, saved_group;
    if (getresgid(&real_group, &effective_group, &saved_group) != 0 || real_group != group ||
        effective_group != group || saved_group != group)
        return 2;
    // The kernel sorts them.
    if (getgroups(NGROUPS_MAX, found) != (int)count) return 3;
    qsort(groups, count, sizeof *groups, by_number);
    qsort(found, count, sizeof *found, by_number);
    if (memcmp(groups, found, count * sizeof *groups) != 0) return 3;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct has[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, has) != 0) return 4;
    for (int word = 0; word < _LINUX_CAPABILITY_U32S_3; word++)
        if (has[word].effective != 0 || has[word].permitted != 0 || has[word].inheritable != 0) return 4;
    for (int capability = 0; capability_exists(capability); capability++)
        if (prctl(PR_CAPBSET_READ, capability, 0, 0, 0) != 0 ||
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, capability, 0, 0) != 0)
            return 5;
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return 6;
    // Regaining rights must fail. Group 0 may be the user's own.
    if (setresuid(-1, 0, -1) == 0 || (group != 0 && setresgid(-1, 0, -1) == 0) || setgroups(0, NULL) == 0) return 7;
    return 0;
}

// Called by the constructor below.
// argv: the name, the instructions, the script's path, the script's arguments. Descriptor 0 is the pipe that takes the reports.
static _Noreturn void start(char **argv, char **environment) {
    int report = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (report < 0) _exit(127);
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0) fail(report, CLINUX_START_INPUT, 0);
    close(null);

    char *rest = argv[1];
    uid_t user = (uid_t)number(&rest);
    gid_t group = (gid_t)number(&rest);
    size_t count = (size_t)number(&rest);
    if (count > NGROUPS_MAX) {
        errno = EINVAL;
        fail(report, CLINUX_START_GROUPS, 0);
    }
    for (size_t place = 0; place < count; place++) groups[place] = (gid_t)number(&rest);
    drop(report, user, group, count);
    errno = 0;
    int broken = proof(user, group, count);
    if (broken != 0) {
        errno = EPERM;
        fail(report, CLINUX_START_PROOF, broken);
    }
    send_report(report, CLINUX_START_READY, 0, 0);
    execve(argv[2], argv + 2, environment);
    fail(report, CLINUX_START_EXEC, 0);
}

__attribute__((constructor)) static void start_if_asked(int argc, char **argv, char **environment) {
    if (argc >= 3 && strcmp(argv[0], CLINUX_START) == 0) start(argv, environment);
}

// In this file, so that its use links the constructor.
const char *clinux_start_name(void) { return CLINUX_START; }
