package import Glibc

/// What tells that a file is still the same one with the same contents, as far as the kernel tells.
package struct FileVersion: Hashable, Sendable {
    private let device: UInt64
    private let inode: UInt64
    private let size: Int64
    private let modified: Duration
    private let changed: Duration

    /// - Parameter status: of the file, as stat(2) gives it.
    package init(_ status: stat) {
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        size = Int64(status.st_size)
        modified = Duration(status.st_mtim)
        changed = Duration(status.st_ctim)
    }

    /// Whether the file has been left alone for a while. The kernel's times come in steps: one that changed a moment ago may change again without a
    /// trace in them, so nothing of it is to be kept.
    /// - Parameter time: how long a while is; longer than the kernel's steps, and than those of coarse file systems.
    package func isSettled(for time: Duration = .seconds(2)) -> Bool {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return Duration(now) - max(modified, changed) > time
    }
}

extension Duration {
    /// Seconds and nanoseconds of C.
    package init(_ time: timespec) { self = .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec) }
}
