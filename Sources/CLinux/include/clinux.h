#pragma once

// System calls that Swift cannot call: without a wrapper in this C library, or variadic.
// The functions are thin: they return the kernel's result and leave errno as the kernel set it.

#include <stddef.h>
// Not in the C library's module for Swift.
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

// How openat2 resolves a path (openat2(2), struct open_how.resolve). Combined by OR.
enum : unsigned long long {
    /// No component may lead out of the directory given as dirfd: neither an absolute link nor "..".
    CLINUX_RESOLVE_BENEATH = 0x08,
    /// No component, not even the last, may be a symbolic link.
    CLINUX_RESOLVE_NO_SYMLINKS = 0x04,
    /// No component may be one of the links of /proc that jump to an open file.
    CLINUX_RESOLVE_NO_MAGICLINKS = 0x02,
    /// No component may lie on another file system (bind mounts included).
    CLINUX_RESOLVE_NO_XDEV = 0x01,
};

/// openat2(2), which has no wrapper. Signals are retried (EINTR), and so is the kernel's EAGAIN under RESOLVE_BENEATH, a few times.
/// - flags: O_… as for openat; O_CLOEXEC is not implied.
/// - mode: only with O_CREAT or O_TMPFILE, else 0.
/// Returns the descriptor, or -1 with errno.
int clinux_openat2(int dirfd, const char *_Nonnull path, unsigned long long flags, unsigned long long mode,
                   unsigned long long resolve);

// How renameat2 treats a target that exists (renameat2(2)).
enum : unsigned int {
    /// Fails with EEXIST when the target exists.
    CLINUX_RENAME_NOREPLACE = 1,
};

/// renameat2(2). Returns 0, or -1 with errno (EINVAL where the file system does not know the flag).
int clinux_renameat2(int old_dirfd, const char *_Nonnull old_path, int new_dirfd, const char *_Nonnull new_path,
                     unsigned int flags);

/// syslog(3) with the message as data, never as format.
void clinux_syslog(int priority, const char *_Nonnull message);

/// Whether the kernel's clock is synchronized (adjtimex(2), STA_UNSYNC). Returns 1 or 0, or -1 with errno.
int clinux_clock_is_synchronized(void);

/// SO_PEERCRED of a connected Unix socket: the peer as of the connect.
/// Returns 0, or -1 with errno.
int clinux_peer_credentials(int socket, unsigned *_Nonnull uid, unsigned *_Nonnull gid, int *_Nonnull pid);

/// pidfd_open(2). Close-on-exec.
/// Returns the descriptor, or -1 with errno.
int clinux_pidfd_open(int pid);

/// pidfd_send_signal(2). Returns 0, or -1 with errno (ESRCH: it has ended).
int clinux_pidfd_send_signal(int process, int signal);

/// PR_SET_DUMPABLE of prctl(2): no core dump of this process is written. execve(2) resets it.
void clinux_forbid_core_dumps(void);

/// A program and its initial state.
struct clinux_program {
    /// Absolute.
    const char *_Nonnull path;
    /// Ended by NULL.
    char *_Nullable const *_Nonnull arguments;
    /// Ended by NULL.
    char *_Nullable const *_Nonnull environment;
    /// A descriptor of its working directory.
    int directory;
    /// A descriptor for its standard input; -1: /dev/null.
    int input;
    /// A descriptor for its standard output.
    int output;
    /// A descriptor for its standard error.
    int error;
    /// A descriptor that it gets as CLINUX_REPORTS and the one after it; -1: it gets neither.
    int reports;
    /// A descriptor of its cgroup; -1: this process's.
    int cgroup;
    /// Whether it gets SIGKILL when its parent, the thread that starts it, ends: 1 or 0.
    int dies_with_parent;
};

/// Starts a program in its own session, with default signal actions and none blocked, with only the three standard descriptors and those of its
/// reports, and with the soft limit on open files with which this process was started.
/// - process: gets its process id. handle: gets a pidfd(2), close-on-exec.
/// Returns 0, or an error number; then there is no process.
int clinux_spawn(int *_Nonnull process, int *_Nonnull handle, const struct clinux_program *_Nonnull program);

/// The name of a script's init process, as ps(1) shows it.
#define CLINUX_INIT "script init"

/// The init process of a script: a subreaper (prctl(2)), from which the script's whole process tree descends. If this process ends first, the init
/// process waits for the script, kills leftover processes, and ends.
struct clinux_init {
    /// Its process id. Only clinux_end_init may wait for it.
    int process;
    /// A socket, close-on-exec.
    int control;
};

/// Starts a program like clinux_spawn, as a child of an init process that reaps it only in clinux_end_init: until then its process id is not
/// reused.
/// - is_tied: whether all processes are killed immediately when this process ends.
/// Returns 0, or an error number; then there is no process. ECHILD: the program was started, and its init process was killed immediately.
int clinux_spawn_with_init(struct clinux_init *_Nonnull init, int *_Nonnull process, int *_Nonnull handle,
                           const struct clinux_program *_Nonnull program, int is_tied);

/// Makes an init process kill all its descendants until there are none. It does not wait. It has no effect on a kernel without
/// CONFIG_PROC_CHILDREN.
void clinux_kill_all_of_init(const struct clinux_init *_Nonnull init);

/// Waits for the end of the program, and ends its init process, whose value must not be used again.
/// - status: gets that of waitpid(2).
/// Returns 0, or ECHILD if the init process was killed or a process that traces the program holds its end back, so that its status is unknown.
int clinux_end_init(const struct clinux_init *_Nonnull init, int *_Nonnull status);

/// Starts a process in a cgroup that exits immediately. Returns 0, or an error number.
/// - cgroup: a descriptor of its directory.
int clinux_try_cgroup(int cgroup);

/// Raises this process's soft limit on open files to the hard one. Programs that clinux_spawn starts get the former limit.
void clinux_raise_open_files(void);

// A program's descriptors for reports: the first, and the number after the last.
enum : int { CLINUX_REPORTS = 3, CLINUX_REPORTS_END = 5 };

/// O_PATH of open(2).
enum : int { CLINUX_O_PATH = 010000000 };
/// AT_EMPTY_PATH of fchownat(2).
enum : int { CLINUX_AT_EMPTY_PATH = 0x1000 };

enum : int { CLINUX_EMPTY = 2 };

/// Whether a file contains the wanted bytes (size: 1 to 4096) after the descriptor's offset.
/// Returns 1 or 0, CLINUX_EMPTY if there are no bytes at all, or -1 with errno of read(2).
int clinux_holds(int file, const void *_Nonnull wanted, size_t size);

enum : int { CLINUX_SHA256_SIZE = 32 };

/// SHA-256 of a file after the descriptor's offset, by nettle.
/// - digest: of CLINUX_SHA256_SIZE bytes.
/// Returns 0, or -1 with errno of read(2).
int clinux_sha256(int file, unsigned char *_Nonnull digest);

/// Argument 0 with which a program that links this file becomes a script (start.c):
/// - argument 1: decimal numbers, each followed by a blank: user, group, the number of supplementary groups and these.
/// - argument 2 and on: the script's absolute path and its arguments.
/// - Descriptor 0: the write end of a pipe for reports; the script gets /dev/null instead.
#define CLINUX_START "start of a script"

/// CLINUX_START; its use links start.c.
const char *_Nonnull clinux_start_name(void);

// The steps of a report: READY once, after all rights are dropped, and then EXEC only if that fails. Any other step is the one that failed before
// READY.
enum : int {
    CLINUX_START_READY = 0,
    CLINUX_START_INPUT = 1,
    CLINUX_START_GROUPS = 2,
    CLINUX_START_USER = 3,
    CLINUX_START_CAPABILITIES = 4,
    /// All calls succeeded, but a right remains; detail: the condition in start.c that does not hold.
    CLINUX_START_PROOF = 5,
    CLINUX_START_EXEC = 6,
};

struct clinux_start_report {
    int step;
    /// errno.
    int number;
    int detail;
};

/// accept4(2) with SOCK_CLOEXEC | SOCK_NONBLOCK.
/// Returns the descriptor, or -1 with errno.
int clinux_accept(int socket);

/// syncfs(2). Returns 0, or -1 with errno.
int clinux_syncfs(int file);

/// The number of the mount that a file lies on, which no other mount of this boot has (statx(2), STATX_MNT_ID_UNIQUE, Linux 6.8).
/// Returns 0 if the kernel does not tell.
unsigned long long clinux_mount_number(int file);

/// Removes a directory's default ACL (acl(5)), if it has one.
/// Returns 0, or -1 with errno of fremovexattr(2).
int clinux_remove_default_acl(int directory);

/// Mounts a directory at another one: read-only, nosuid and nodev from the beginning, and private. Linux 5.12 or later.
/// - directory, point: descriptors, for which O_PATH is enough; no path is resolved.
/// Returns 0, or -1 with errno of open_tree(2), mount_setattr(2) or move_mount(2).
int clinux_mount_read_only(int directory, int point);

/// Makes an existing mount read-only, nosuid and nodev (mount_setattr(2)).
/// - root: a descriptor of the mount's root.
/// Returns 0, or -1 with errno.
int clinux_restrict_mount(int root);

/// Whether the kernel holds users to disk quotas on the file system that a descriptor lies on (quotactl_fd(2), Linux 5.14).
/// - file: O_PATH is enough.
/// Returns 1 or 0, or -1 with errno where the kernel does not tell.
int clinux_enforces_user_quota(int file);

/// The number of the btrfs subvolume that an open directory lies on (BTRFS_IOC_INO_LOOKUP); 0 with errno if there is none.
/// - directory: O_PATH is not enough.
unsigned long long clinux_btrfs_subvolume(int directory);

/// Whether the mount that a descriptor lies on is read-only, nosuid and nodev (fstatvfs(3)). Returns 1 or 0, or -1 with errno.
int clinux_is_restricted_mount(int file);

/// Whether a directory has a default ACL, which new files in it inherit (acl(5)).
/// - directory: a descriptor, for which O_PATH is enough. /proc must be mounted.
/// Returns 1 or 0, also if the file system has no ACLs, or -1 with errno.
int clinux_has_default_acl(int directory);

/// Detaches a mount (umount2(2), MNT_DETACH).
/// - root: a descriptor of the mount's root. /proc must be mounted.
/// Returns 0, or -1 with errno.
int clinux_detach_mount(int root);

/// Names the calling thread for ps and top; the system shows at most 15 bytes.
void clinux_name_thread(const char *_Nonnull name);
