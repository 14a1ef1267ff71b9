package import SystemPackage

/// What another try can be expected to bring (specification: rows.md R8).
public enum FailureClass: String, Hashable, Sendable {
    /// The cause may pass by itself: try again after a while.
    case retryable
    /// The machine has run out of something that every job needs, or a disk fails: another try helps once an administrator has fixed it.
    case shortage
    /// The same try would fail the same way: somebody must change something first.
    case permanent
    /// The settings or the machine are wrong: every job of this kind would fail.
    case configuration

    /// Whether another try is made without anybody changing the job.
    var isTriedAgain: Bool { self == .retryable || self == .shortage }
}

extension FailureClass {
    /// The class of a system call that failed, where its number alone tells: a shortage is the machine's, a disk quota is the account's own limit.
    package init?(_ errno: Errno) {
        switch errno {
        case _ where errno.isShortage: self = .shortage
        case .diskQuotaExceeded: self = .retryable
        default: return nil
        }
    }
}

extension Errno {
    /// Whether the machine had run out of something, or a disk failed: the same call may succeed later, and nobody but an administrator can
    /// see to that. A file system that can only be read counts as well: after an input/output error the kernel leaves it so.
    ///
    /// EAGAIN is none, since only the start of a process means a shortage by it (`ScriptError`).
    package var isShortage: Bool {
        switch self {
        case .noSpace, .ioError, .readOnlyFileSystem, .tooManyOpenFiles, .tooManyOpenFilesInSystem, .noMemory: true
        default: false
        }
    }

    /// How an administrator fixes a shortage. The text is the same for all accounts, by which a shortage is told once and not for each of them.
    /// - Parameter place: a directory of the file system that was worked on, and none of one account's alone.
    package func shortageHint(at place: FilePath) -> String {
        let place = place.shellWord
        return switch self {
        case .noSpace, .diskQuotaExceeded: "make room on the file system: df \(place); df -i \(place)"
        case .readOnlyFileSystem: "look for the cause in dmesg, and mount the file system writable: findmnt -T \(place)"
        case .tooManyOpenFiles: "raise LimitNOFILE in the daemon's unit (systemctl edit), or lower SLOTS"
        case .tooManyOpenFilesInSystem: "close files, or raise the machine's limit: sysctl fs.file-nr fs.file-max"
        case .noMemory: "free memory, or raise MemoryMax of the daemon's unit: free -m; systemctl status"
        case .resourceTemporarilyUnavailable:
            "end processes, or raise the limits on them: TasksMax of the daemon's unit, ulimit -u, sysctl kernel.pid_max"
        default: "check the disk with dmesg: findmnt -T \(place)"
        }
    }
}
