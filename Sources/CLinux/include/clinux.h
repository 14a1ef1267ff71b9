#pragma once

// System calls that Swift cannot reach: those without a wrapper in this C library, and variadic ones.
// Every function is as thin as it can be: it returns what the kernel said and leaves errno as the kernel set it.

#include <stddef.h>
// Left out of the C library's module for Swift.
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#ifdef __cplusplus
extern "C" {
#endif

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
    /// Exchanges the two names in one step; both must exist.
    CLINUX_RENAME_EXCHANGE = 2,
};

/// renameat2(2). Returns 0, or -1 with errno (EINVAL where the file system does not know the flag).
int clinux_renameat2(int old_dirfd, const char *_Nonnull old_path, int new_dirfd, const char *_Nonnull new_path,
                     unsigned int flags);

/// syslog(3) with the message as data, never as format.
void clinux_syslog(int priority, const char *_Nonnull message);

/// Whether the kernel's clock is kept right by something (adjtimex(2), STA_UNSYNC). Returns 1 or 0, or -1 with errno.
int clinux_clock_is_synchronized(void);

/// SO_PEERCRED of a connected Unix socket: who was at the other end when it connected.
/// Returns 0, or -1 with errno.
int clinux_peer_credentials(int socket, unsigned *_Nonnull uid, unsigned *_Nonnull gid, int *_Nonnull pid);

/// pidfd_open(2): holds a process, so that its number cannot come to mean another one. Close-on-exec.
/// Returns the descriptor, or -1 with errno.
int clinux_pidfd_open(int pid);

/// pidfd_send_signal(2). Returns 0, or -1 with errno (ESRCH: it has ended).
int clinux_pidfd_send_signal(int process, int signal);

/// PR_SET_DUMPABLE of prctl(2): no core dump of this process is written. execve(2) makes an end of it.
void clinux_forbid_core_dumps(void);

/// pipe2(2), both ends close-on-exec and non-blocking: ends[0] to read from, ends[1] to write to. Returns 0, or -1 with errno.
int clinux_pipe(int *_Nonnull ends);

/// A program and what it begins with.
struct clinux_program {
    /// Absolute.
    const char *_Nonnull path;
    /// Ended by NULL.
    char *_Nullable const *_Nonnull arguments;
    /// Ended by NULL.
    char *_Nullable const *_Nonnull environment;
    /// A descriptor of the directory that it begins in.
    int directory;
    /// A descriptor for its standard input; -1: /dev/null.
    int input;
    /// A descriptor for its standard output.
    int output;
    /// A descriptor for its standard error.
    int error;
    /// A descriptor that it gets as CLINUX_REPORTS and the one after it; -1: it gets neither.
    int reports;
    /// A descriptor of the cgroup that it begins in; -1: this process's.
    int cgroup;
    /// Whether it gets SIGKILL when its parent, the thread that starts it, ends: 1 or 0.
    int dies_with_parent;
};

/// Starts a program that leads a session of its own, with every signal at its default and none blocked, with no descriptor but the three standard
/// ones and those of its reports, and with the soft limit on open files that this process was started with.
/// - process: gets its number. handle: gets a pidfd(2), close-on-exec.
/// Returns 0, or why it did not begin, as a number of errno; then nothing is left of it.
int clinux_spawn(int *_Nonnull process, int *_Nonnull handle, const struct clinux_program *_Nonnull program);

/// The name of a script's init process, as ps(1) shows it.
#define CLINUX_INIT "script init"

/// The init process of a script: the script and everything that it starts descend from it until they end, for it is a subreaper (prctl(2)). When this
/// process ends before it, it kills what is left when the script has ended, and ends as well.
struct clinux_init {
    /// Its number. It is a child of this process, which must not wait for it but by clinux_end_init.
    int process;
    /// A socket, close-on-exec.
    int control;
};

/// Starts a program as clinux_spawn does, as a child of an init process of its own, which takes the program's end only when clinux_end_init is
/// called: until then, the program's number is no other's.
/// - is_tied: whether everything is killed at once when this process ends.
/// Returns 0, or why it did not begin, as a number of errno; then nothing is left of either. ECHILD: it has begun, and its init process was killed
/// at once.
int clinux_spawn_with_init(struct clinux_init *_Nonnull init, int *_Nonnull process, int *_Nonnull handle,
                           const struct clinux_program *_Nonnull program, int is_tied);

/// Has SIGKILL sent to all that descends from an init process, until nothing of it is left. It does not wait for that. It needs a kernel with
/// CONFIG_PROC_CHILDREN, and is without effect elsewhere.
void clinux_kill_all_of_init(const struct clinux_init *_Nonnull init);

/// Waits for the end of the program, and ends its init process, whose value is not to be used again.
/// - status: gets the program's, as waitpid(2) does.
/// Returns 0, or ECHILD when the init process was killed and nobody knows how the program has ended or will.
int clinux_end_init(const struct clinux_init *_Nonnull init, int *_Nonnull status);

/// Whether a process can be started in a cgroup: starts one that ends at once. Returns 0, or why not, as a number of errno.
/// - cgroup: a descriptor of its directory.
int clinux_try_cgroup(int cgroup);

/// Raises this process's soft limit on open files to the hard one, which every process may. Programs that clinux_spawn starts get the one from before.
void clinux_raise_open_files(void);

// Where a program finds the two descriptors of its reports: the first, and the number after the last.
enum : int { CLINUX_REPORTS = 3, CLINUX_REPORTS_END = 5 };

/// pipe2(2), both ends close-on-exec: only reading from it does not block, since the other end goes to a program that expects to wait for room.
/// Returns 0, or -1 with errno.
int clinux_output_pipe(int *_Nonnull ends);

/// O_PATH of open(2): the descriptor names a file and opens nothing.
enum : int { CLINUX_O_PATH = 010000000 };
/// AT_EMPTY_PATH of fchownat(2): the descriptor itself is meant.
enum : int { CLINUX_AT_EMPTY_PATH = 0x1000 };

enum : int { CLINUX_EMPTY = 2 };

/// Whether the wanted bytes (size: at least 1, at most 4096) stand in a file, from where its descriptor stands on.
/// Returns 1 or 0, CLINUX_EMPTY when nothing at all stands there, or -1 with errno as read(2) set it.
int clinux_holds(int file, const void *_Nonnull wanted, size_t size);

enum : int { CLINUX_SHA256_SIZE = 32 };

/// SHA-256 of a file from where its descriptor stands to its end, by nettle.
/// - digest: room for CLINUX_SHA256_SIZE bytes.
/// Returns 0, or -1 with errno as read(2) set it.
int clinux_sha256(int file, unsigned char *_Nonnull digest);

/// Argument 0 by which a program that is linked with this file starts a script in place of itself (start.c):
/// - argument 1: decimal numbers, each followed by a blank: user, group, the number of supplementary groups and these.
/// - argument 2 and on: the script's absolute path and its arguments.
/// - Descriptor 0: the write end of a pipe, which takes reports; the script gets /dev/null in its place.
#define CLINUX_START "start of a script"

/// CLINUX_START; naming it here links the starter.
const char *_Nonnull clinux_start_name(void);

// What the starter reports on: READY once, when everything is set and proved, and then nothing more unless EXEC fails. Any other is why there
// is no READY.
enum : int {
    CLINUX_START_READY = 0,
    CLINUX_START_INPUT = 1,
    CLINUX_START_GROUPS = 2,
    CLINUX_START_USER = 3,
    CLINUX_START_CAPABILITIES = 4,
    /// Every call succeeded and a right is still there; detail: which of the sentences in start.c does not hold.
    CLINUX_START_PROOF = 5,
    CLINUX_START_EXEC = 6,
};

struct clinux_start_report {
    int step;
    /// The kernel's errno.
    int number;
    int detail;
};

/// accept4(2) with SOCK_CLOEXEC | SOCK_NONBLOCK: no child that is started meanwhile inherits the connection.
/// Returns the descriptor, or -1 with errno.
int clinux_accept(int socket);

/// syncfs(2): writes to the disk what was written to the file system that holds the file. Returns 0, or -1 with errno.
int clinux_syncfs(int file);

/// Takes away a directory's default ACL (acl(5)), where it has one and its file system has such.
/// Returns 0, or -1 with errno as fremovexattr(2) set it.
int clinux_remove_default_acl(int directory);

/// Mounts a directory at another one: read-only, nosuid and nodev from its first instant, and private. Linux 5.12 or later.
/// - directory, point: descriptors, for which O_PATH is enough; no path is resolved.
/// Returns 0, or -1 with errno as open_tree(2), mount_setattr(2) or move_mount(2) set it.
int clinux_mount_read_only(int directory, int point);

/// Makes an existing mount read-only, nosuid and nodev (mount_setattr(2)).
/// - root: a descriptor of the mount's root.
/// Returns 0, or -1 with errno.
int clinux_restrict_mount(int root);

/// Whether the mount that a descriptor lies on is read-only, nosuid and nodev (fstatvfs(3)). Returns 1 or 0, or -1 with errno.
int clinux_is_restricted_mount(int file);

/// Whether a directory has a default ACL, which whatever is made in it gets (acl(5)).
/// - directory: a descriptor, for which O_PATH is enough. /proc must be mounted.
/// Returns 1 or 0, also where the file system has none, or -1 with errno.
int clinux_has_default_acl(int directory);

/// Takes a mount away at once; what still uses it keeps it until it ends (umount2(2), MNT_DETACH).
/// - root: a descriptor of the mount's root. /proc must be mounted.
/// Returns 0, or -1 with errno.
int clinux_detach_mount(int root);

/// Names the calling thread for ps and top; the system shows at most 15 bytes.
void clinux_name_thread(const char *_Nonnull name);

#ifdef __cplusplus
}
#endif
