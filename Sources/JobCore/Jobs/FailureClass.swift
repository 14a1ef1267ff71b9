package import SystemPackage

/// Whether a retry of a failed attempt may succeed (specification: rows.md R8).
public enum FailureClass: String, Hashable, Sendable {
    /// The cause may disappear by itself: retry later.
    case retryable
    /// The machine lacks a resource that every job needs, or a disk fails: a retry helps once an administrator has
    /// fixed it.
    case shortage
    /// A retry would fail in the same way until somebody changes something.
    case permanent
    /// The settings or the machine are wrong: every job of this kind would fail.
    case configuration

    /// Whether the job is retried automatically.
    var isTriedAgain: Bool { self == .retryable || self == .shortage }
}

extension FailureClass {
    /// The class of a failed system call, if its error number decides it: a shortage concerns the machine, a disk
    /// quota the account.
    package init?(_ errno: Errno) {
        switch errno {
        case _ where errno.isShortage: self = .shortage
        case .diskQuotaExceeded: self = .retryable
        default: return nil
        }
    }
}

extension Errno {
    /// Whether the machine lacks a resource, or a disk fails: the same call may succeed after an administrator has
    /// fixed it. This includes a read-only file system, because the kernel remounts one read-only after an
    /// input/output error.
    ///
    /// EAGAIN is not included, because it means a shortage only when a process is started (`ScriptError`).
    package var isShortage: Bool {
        switch self {
        case .noSpace, .ioError, .readOnlyFileSystem, .tooManyOpenFiles, .tooManyOpenFilesInSystem, .noMemory: true
        default: false
        }
    }

    /// How an administrator fixes a shortage. The text is the same for all accounts, so that a shortage is reported
    /// once and not for each account.
    /// - Parameter place: a directory of the file system, not one of a single account.
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

/// How often something is retried, and how long to wait before each retry: exponential backoff with equal jitter
/// (specification: rows.md R7).
///
/// The wait doubles with every attempt up to a maximum. Half of it is fixed and half is random ("equal jitter"), so
/// that many jobs that failed together do not retry together, and none retries at once as it may with full jitter.
public struct RetryPolicy: Hashable, Sendable {
    /// All attempts, including the first; at least 1. `Int.max`: no limit.
    public var maximumAttempts: Int
    /// The wait after the first attempt, before jitter.
    public var delay: Duration
    /// The longest wait.
    public var maximumDelay: Duration

    /// Values out of range become the nearest valid ones: at least one attempt, no negative wait and none above a century, and a maximum
    /// not below the first wait.
    public init(maximumAttempts: Int, delay: Duration, maximumDelay: Duration) {
        self.maximumAttempts = max(1, maximumAttempts)
        self.delay = delay.boundedForSleep
        self.maximumDelay = max(self.delay, maximumDelay.boundedForSleep)
    }

    /// How long to wait before the next attempt.
    /// - Parameters:
    ///   - attempt: the number of the attempt that failed; the first is 1.
    ///   - generator: the source of the jitter.
    /// - Returns: from half of the backoff to all of it; nil after the last attempt.
    public func delay(afterAttempt attempt: Int, using generator: inout some RandomNumberGenerator) -> Duration? {
        attempt < maximumAttempts ? endlessDelay(afterAttempt: attempt, using: &generator) : nil
    }

    /// How long to wait before the next attempt where the number of attempts has no limit.
    package func endlessDelay(
        afterAttempt attempt: Int, using generator: inout some RandomNumberGenerator
    ) -> Duration {
        let whole = backoff(afterAttempt: attempt)
        return min(whole / 2 + whole * Double.random(in: 0...0.5, using: &generator), whole)
    }

    /// The wait before jitter.
    func backoff(afterAttempt attempt: Int) -> Duration {
        var wait = delay
        // This ends soon: a Duration has few bits, and the loop stops before the doubling could overflow.
        var step = 1
        while wait > .zero, step < attempt {
            if wait >= maximumDelay - wait { return maximumDelay }
            wait += wait
            step += 1
        }
        return wait
    }
}
