#pragma once

// System calls that Swift cannot reach: those without a wrapper in this C library, and variadic ones.
// Every function is as thin as it can be: it returns what the kernel said and leaves errno as the kernel set it.

#ifdef __cplusplus
extern "C" {
#endif

// How openat2 resolves a path (openat2(2), struct open_how.resolve). Combined by OR.
enum : unsigned long long {
    /// No component may lead out of the folder given as dirfd: neither an absolute link nor "..".
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

/// SO_PEERCRED of a connected Unix socket: who was at the other end when it connected.
/// Returns 0, or -1 with errno.
int clinux_peer_credentials(int socket, unsigned *_Nonnull uid, unsigned *_Nonnull gid, int *_Nonnull pid);

/// Sends a signal to a process only if it belongs to the session, without the danger of hitting a stranger that got its number meanwhile
/// (the process is held by a pidfd before its session is looked at).
/// Returns 0, or -1 with errno (ESRCH: gone, or of another session).
int clinux_signal_in_session(int pid, int session, int signal);

/// accept4(2) with SOCK_CLOEXEC | SOCK_NONBLOCK: no child that is started meanwhile inherits the connection.
/// Returns the descriptor, or -1 with errno.
int clinux_accept(int socket);

/// eventfd(2), close-on-exec and non-blocking, with the count 0. Returns the descriptor, or -1 with errno.
int clinux_eventfd(void);

/// Names the calling thread for ps and top; the system shows at most 15 bytes.
void clinux_name_thread(const char *_Nonnull name);

#ifdef __cplusplus
}
#endif
