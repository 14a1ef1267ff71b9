#define _GNU_SOURCE
#include "clinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <linux/dqblk_xfs.h>
#include <linux/openat2.h>
#include <linux/quota.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/xattr.h>
#include <syslog.h>
#include <unistd.h>

_Static_assert(CLINUX_RESOLVE_BENEATH == RESOLVE_BENEATH, "openat2");
_Static_assert(CLINUX_RESOLVE_NO_SYMLINKS == RESOLVE_NO_SYMLINKS, "openat2");
_Static_assert(CLINUX_RESOLVE_NO_MAGICLINKS == RESOLVE_NO_MAGICLINKS, "openat2");
_Static_assert(CLINUX_RESOLVE_NO_XDEV == RESOLVE_NO_XDEV, "openat2");
_Static_assert(CLINUX_RENAME_NOREPLACE == RENAME_NOREPLACE, "renameat2");
_Static_assert(CLINUX_O_PATH == O_PATH, "open");
_Static_assert(CLINUX_AT_EMPTY_PATH == AT_EMPTY_PATH, "fchownat");
_Static_assert(CLINUX_SHA256_SIZE == SHA256_DIGEST_SIZE, "nettle");

int clinux_openat2(int dirfd, const char *path, unsigned long long flags, unsigned long long mode,
                   unsigned long long resolve) {
    struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
    // EAGAIN: a rename or mount prevented the check of ".."; openat2(2) says to retry.
    for (int attempt = 0;; attempt++) {
        long fd = syscall(SYS_openat2, dirfd, path, &how, sizeof how);
        if (fd >= 0 || (errno != EINTR && errno != EAGAIN) || attempt == 100) return (int)fd;
    }
}

int clinux_renameat2(int old_dirfd, const char *old_path, int new_dirfd, const char *new_path, unsigned int flags) {
    return renameat2(old_dirfd, old_path, new_dirfd, new_path, flags);
}

void clinux_syslog(int priority, const char *message) { syslog(priority, "%s", message); }

int clinux_clock_is_synchronized(void) {
    struct timex timex = {.modes = 0};
    if (adjtimex(&timex) < 0) return -1;
    return (timex.status & STA_UNSYNC) == 0;
}

int clinux_peer_credentials(int socket, unsigned *uid, unsigned *gid, int *pid) {
    struct ucred credentials;
    socklen_t length = sizeof credentials;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return -1;
    *uid = credentials.uid;
    *gid = credentials.gid;
    *pid = credentials.pid;
    return 0;
}

int clinux_pidfd_open(int pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

int clinux_pidfd_send_signal(int process, int signal) {
    return (int)syscall(SYS_pidfd_send_signal, process, signal, NULL, 0);
}

void clinux_forbid_core_dumps(void) { prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }

int clinux_holds(int file, const void *wanted, size_t size) {
    char buffer[64 * 1024];
    // Bytes of the previous read that may be the beginning of the wanted bytes.
    size_t kept = 0;
    int is_empty = 1;
    for (;;) {
        ssize_t count = read(file, buffer + kept, sizeof buffer - kept);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return -1;
        if (count == 0) return is_empty ? CLINUX_EMPTY : 0;
        is_empty = 0;
        size_t end = kept + (size_t)count;
        if (memmem(buffer, end, wanted, size) != NULL) return 1;
        kept = end < size - 1 ? end : size - 1;
        memmove(buffer, buffer + (end - kept), kept);
    }
}

int clinux_sha256(int file, unsigned char *digest) {
    struct sha256_ctx context;
    sha256_init(&context);
    unsigned char buffer[64 * 1024];
    for (;;) {
        ssize_t count = read(file, buffer, sizeof buffer);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return -1;
        if (count == 0) break;
        sha256_update(&context, (size_t)count, buffer);
    }
    sha256_digest(&context, CLINUX_SHA256_SIZE, digest);
    return 0;
}

int clinux_accept(int socket) { return accept4(socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK); }

int clinux_syncfs(int file) { return syncfs(file); }

unsigned long long clinux_mount_number(int file) {
    const unsigned unique = 0x4000; // STATX_MNT_ID_UNIQUE, which older headers lack.
    struct statx status;
    if (statx(file, "", AT_EMPTY_PATH, unique, &status) != 0 || !(status.stx_mask & unique)) return 0;
    return status.stx_mnt_id;
}

int clinux_remove_default_acl(int directory) {
    int result = fremovexattr(directory, "system.posix_acl_default");
    return result != 0 && (errno == ENODATA || errno == ENOTSUP) ? 0 : result;
}

static int restrict_mount(int mount, unsigned long long propagation) {
    struct mount_attr restricted = {
        .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
        .propagation = propagation,
    };
    return mount_setattr(mount, "", AT_EMPTY_PATH, &restricted, sizeof restricted);
}

int clinux_mount_read_only(int directory, int point) {
    int tree = open_tree(directory, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0) return -1;
    int result = restrict_mount(tree, MS_PRIVATE);
    if (result == 0) result = move_mount(tree, "", point, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    int cause = errno;
    close(tree);
    errno = cause;
    return result;
}

int clinux_restrict_mount(int root) { return restrict_mount(root, 0); }

int clinux_is_restricted_mount(int file) {
    struct statvfs status;
    if (fstatvfs(file, &status) != 0) return -1;
    unsigned long wanted = ST_RDONLY | ST_NOSUID | ST_NODEV;
    return (status.f_flag & wanted) == wanted;
}

int clinux_enforces_user_quota(int file) {
    struct fs_quota_statv status = {.qs_version = FS_QSTATV_VERSION1};
    int command = QCMD(Q_XGETQSTATV, USRQUOTA);
    // ENOSYS: no such system call, or a file system where no quota is switched on.
    if (syscall(SYS_quotactl_fd, -1, command, 0, &status) != 0 && errno != EBADF) return -1;
    if (syscall(SYS_quotactl_fd, file, command, 0, &status) != 0) return errno == ENOSYS ? 0 : -1;
    return (status.qs_flags & FS_QUOTA_UDQ_ENFD) != 0;
}

unsigned long long clinux_btrfs_subvolume(int directory) {
    struct btrfs_ioctl_ino_lookup_args place = {.objectid = BTRFS_FIRST_FREE_OBJECTID};
    return ioctl(directory, BTRFS_IOC_INO_LOOKUP, &place) == 0 ? place.treeid : 0;
}

int clinux_has_default_acl(int directory) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", directory);
    if (getxattr(path, "system.posix_acl_default", NULL, 0) > 0) return 1;
    return errno == ENODATA || errno == ENOTSUP ? 0 : -1;
}

int clinux_detach_mount(int root) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", root);
    return umount2(path, MNT_DETACH);
}

void clinux_name_thread(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }
