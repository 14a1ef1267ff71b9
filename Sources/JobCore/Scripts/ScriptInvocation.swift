public import EventLoop
public import SystemPackage

/// A program, its arguments and its environment. No shell is involved. Umask and resource limits are those of this
/// process, and so is the user unless `user` is set.
public struct ScriptInvocation: Hashable, Sendable {
    /// The absolute path of the program, which is also argument 0.
    public var executable: FilePath
    /// The arguments after argument 0. None may contain a NUL.
    public var arguments: [String]
    /// The complete environment.
    public var environment: [String: String]
    /// An absolute path.
    public var workingDirectory: FilePath
    /// How long it may run before it is stopped.
    public var timeLimit: Duration
    /// The grace period from SIGTERM to SIGKILL.
    public var grace: Duration
    /// The user of the program; nil: the user of this process. With a user, the environment must not contain
    /// variables of the dynamic loader (`LD_…`).
    public var user: ScriptUser?
    /// Whether descriptors 3 and 4 are the writing end of a pipe whose first 64 KiB become ``ScriptResult/reports``.
    public var hasReports: Bool
    /// Whether the program is killed when this process ends, if it has an init process. Otherwise it can request that
    /// itself (PR_SET_PDEATHSIG): the thread that starts it lives as long as this process.
    public var isTiedToProcess: Bool

    /// - Parameters:
    ///   - environment: nothing is added; without PATH, shells use a default of their own.
    ///   - timeLimit: from the start; negative counts as zero.
    ///   - grace: from SIGTERM; negative counts as zero.
    public init(
        executable: FilePath, arguments: [String] = [], environment: [String: String] = [:],
        workingDirectory: FilePath = "/", timeLimit: Duration, grace: Duration,
        user: ScriptUser? = nil, hasReports: Bool = false, isTiedToProcess: Bool = false
    ) {
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
        self.workingDirectory = workingDirectory
        self.timeLimit = timeLimit
        self.grace = grace
        self.user = user
        self.hasReports = hasReports
        self.isTiedToProcess = isTiedToProcess
    }
}

extension ScriptInvocation {
    var program: ChildProcess.Program {
        ChildProcess.Program(executable, arguments, environment: environment, in: workingDirectory)
    }

    /// Rejects values that the kernel would silently truncate or misinterpret.
    func validate() throws(ScriptError) {
        try validate(executable, as: "the program's path")
        try validate(workingDirectory, as: "the working directory")
        for (place, argument) in arguments.enumerated() where argument.containsNUL {
            throw ScriptError(
                .argument, path: executable, reason: "argument \(place + 1) contains a NUL character",
                hint: "an argument ends at a NUL: correct the value of the argument")
        }
        let faults = environment.compactMap { name, value in Self.fault(name: name, value: value).map { (name, $0) } }
        if let (name, fault) = faults.min(by: { $0.0 < $1.0 }) {
            throw ScriptError(
                .environment, path: executable,
                reason: "environment variable \"\(OneLine.escaping(name))\" \(fault)",
                hint: "correct the name or the value of the variable")
        }
        if user != nil, let name = environment.keys.filter(Self.isLoaderVariable).min() {
            throw ScriptError(
                .environment, path: executable,
                reason: "environment variable \"\(name)\" would load code before the privileges are dropped",
                hint: "set it inside the script, or leave the setting that names the user empty")
        }
    }

    private func validate(_ path: FilePath, as name: String) throws(ScriptError) {
        // FilePath ends a string at its first NUL, so only the beginning has to be checked.
        guard !path.isAbsolute else { return }
        throw ScriptError(
            .path, path: path, reason: "\(name) must be absolute: PATH is not searched",
            hint: "write the absolute path, beginning with /")
    }

    /// Variables of the dynamic loader (ld.so(8)), which affect the process that drops the privileges.
    private static func isLoaderVariable(_ name: String) -> Bool { name.hasPrefix("LD_") || name == "GLIBC_TUNABLES" }

    private static func fault(name: String, value: String) -> String? {
        if name.isEmpty { return "has no name" }
        if name.utf8.contains(UInt8(ascii: "=")) { return "has a = in its name" }
        if name.containsNUL { return "has a NUL character in its name" }
        if let first = name.utf8.first, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) {
            return "begins with a digit"
        }
        if value.containsNUL { return "has a NUL character in its value" }
        return nil
    }
}

/// How a script ended, and its output.
public struct ScriptResult: Hashable, Sendable {
    /// Why a script ended.
    public enum Cause: Hashable, Sendable {
        /// It ended by itself, or by a signal from elsewhere.
        case itself
        /// It was stopped at its time limit.
        case timeLimit
        /// It was stopped because the task was cancelled.
        case cancellation
    }

    /// How its own process ended.
    public var termination: TerminationStatus
    /// Why it ended.
    public var cause: Cause
    /// Standard output and standard error, interleaved.
    public var output: CapturedOutput
    /// What it wrote to descriptors 3 and 4; empty unless ``ScriptInvocation/hasReports``.
    public var reports: [UInt8]
    /// From the request until the script and its leftover processes ended.
    public var duration: Duration
    /// Leftover processes: started by the script, still alive after its end, and then ended; by name and number
    /// (specification: rows.md D13).
    public var leftovers: [String]

    /// Made by ``ScriptRunner``.
    package init(
        termination: TerminationStatus, cause: Cause = .itself, output: CapturedOutput = CapturedOutput(),
        reports: [UInt8] = [], duration: Duration = .zero, leftovers: [String] = []
    ) {
        self.termination = termination
        self.cause = cause
        self.output = output
        self.reports = reports
        self.duration = duration
        self.leftovers = leftovers
    }
}

/// The beginning and the end of a program's output, and the number of bytes omitted between them.
public struct CapturedOutput: Hashable, Sendable {
    /// The first bytes.
    public var head: [UInt8]
    /// The last bytes that are not in the head.
    public var tail: [UInt8]
    /// Number of omitted bytes.
    public var dropped: Int

    package init(head: [UInt8] = [], tail: [UInt8] = [], dropped: Int = 0) {
        self.head = head
        self.tail = tail
        self.dropped = dropped
    }
}

/// Keeps the beginning and the end of a stream of any length in bounded memory.
struct OutputCapture: Sendable {
    private let headLimit: Int
    private let tailLimit: Int
    private var head: [UInt8] = []
    /// Up to twice its limit, so that bytes are moved once per limit and not once per chunk.
    private var tail: [UInt8] = []
    private var total = 0

    /// - Parameters:
    ///   - headLimit: how many of the first bytes are kept; at least 0.
    ///   - tailLimit: how many of the last bytes are kept; at least 0.
    init(headLimit: Int, tailLimit: Int) {
        self.headLimit = max(0, headLimit)
        self.tailLimit = max(0, tailLimit)
    }

    mutating func append(_ bytes: some RandomAccessCollection<UInt8>) {
        total += bytes.count
        let toHead = bytes.prefix(headLimit - head.count)
        head.append(contentsOf: toHead)
        let rest = bytes.dropFirst(toHead.count)
        if rest.count >= tailLimit {
            tail.removeAll(keepingCapacity: true)
        } else if tail.count + rest.count > 2 * tailLimit {
            tail.removeFirst(tail.count - tailLimit)
        }
        tail.append(contentsOf: rest.suffix(tailLimit))
    }

    /// What was kept so far.
    var captured: CapturedOutput {
        let tail = Array(tail.suffix(tailLimit))
        return CapturedOutput(head: head, tail: tail, dropped: total - head.count - tail.count)
    }
}

/// The output so far of a running program. One value serves one run.
///
/// `head.count + dropped + tail.count` is the number of bytes so far, from which a follower computes what is new.
@MainActor public final class LiveOutput {
    private var capture: OutputCapture
    private let reader: (@MainActor (UnsafeRawBufferPointer) -> Void)?

    /// - Parameters:
    ///   - headLimit: how many of the first bytes are kept.
    ///   - tailLimit: how many of the last bytes are kept.
    ///   - reader: receives every byte in order, including those that are not kept; it must be fast.
    public nonisolated init(
        headLimit: Int = 16 * 1024, tailLimit: Int = 48 * 1024,
        reader: (@MainActor (UnsafeRawBufferPointer) -> Void)? = nil
    ) {
        capture = OutputCapture(headLimit: headLimit, tailLimit: tailLimit)
        self.reader = reader
    }

    /// What was kept so far.
    public var captured: CapturedOutput { capture.captured }

    func append(_ bytes: UnsafeRawBufferPointer) {
        capture.append(bytes)
        reader?(bytes)
    }
}
