#define _GNU_SOURCE
#include "clinux.h"

#include <errno.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <syslog.h>
#include <unistd.h>

_Static_assert(CLINUX_RESOLVE_BENEATH == RESOLVE_BENEATH, "openat2");
_Static_assert(CLINUX_RESOLVE_NO_SYMLINKS == RESOLVE_NO_SYMLINKS, "openat2");
_Static_assert(CLINUX_RESOLVE_NO_MAGICLINKS == RESOLVE_NO_MAGICLINKS, "openat2");
_Static_assert(CLINUX_RESOLVE_NO_XDEV == RESOLVE_NO_XDEV, "openat2");
_Static_assert(CLINUX_RENAME_NOREPLACE == RENAME_NOREPLACE, "renameat2");
_Static_assert(CLINUX_RENAME_EXCHANGE == RENAME_EXCHANGE, "renameat2");

int clinux_openat2(int dirfd, const char *path, unsigned long long flags, unsigned long long mode,
                   unsigned long long resolve) {
    struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
    // EAGAIN means that something was renamed or mounted meanwhile and ".." could not be proved harmless: the manual asks to retry.
    for (int attempt = 0;; attempt++) {
        long fd = syscall(SYS_openat2, dirfd, path, &how, sizeof how);
        if (fd >= 0 || (errno != EINTR && errno != EAGAIN) || attempt == 100) return (int)fd;
    }
}

int clinux_renameat2(int old_dirfd, const char *old_path, int new_dirfd, const char *new_path, unsigned int flags) {
    return renameat2(old_dirfd, old_path, new_dirfd, new_path, flags);
}

void clinux_syslog(int priority, const char *message) { syslog(priority, "%s", message); }

int clinux_peer_credentials(int socket, unsigned *uid, unsigned *gid, int *pid) {
    struct ucred credentials;
    socklen_t length = sizeof credentials;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return -1;
    *uid = credentials.uid;
    *gid = credentials.gid;
    *pid = credentials.pid;
    return 0;
}

int clinux_signal_in_session(int pid, int session, int signal) {
    int process = (int)syscall(SYS_pidfd_open, pid, 0);
    if (process < 0) return -1;
    int result = -1;
    pid_t owner = getsid(pid);
    if (owner == session)
        result = (int)syscall(SYS_pidfd_send_signal, process, signal, NULL, 0);
    else if (owner >= 0)
        errno = ESRCH;
    int cause = errno;
    close(process);
    errno = cause;
    return result;
}

int clinux_accept(int socket) { return accept4(socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK); }

int clinux_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

void clinux_name_thread(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }
