public import EventLoop

/// One unit of work on one subject: the request, its state and its history. It keeps its number over all its
/// attempts.
///
/// ``JobRegistry`` holds the open jobs, the history stores them, and the control socket and `--json` send them, all
/// in the same JSON. Long parts (report lines and output of programs) are stored separately.
public struct Job: Hashable, Sendable {
    // MARK: Request

    /// Unique and never reused.
    public let id: JobID
    /// The kind of work.
    public let type: JobType
    /// The name of the work; many jobs have the same name.
    public let name: String
    /// The variant of the work, such as `add` or `daily`; empty if there is only one.
    public var level: String
    /// The subject of the work.
    public internal(set) var subject: JobSubject
    /// The client in displays: the account's uid, or the name of a script.
    public let client: String
    /// 1 is more urgent than 10.
    public var priority: Int
    /// When it was requested.
    public internal(set) var created: Timestamp

    // MARK: State

    /// The status letter.
    public var status = JobStatus.created
    /// The status in words, unless the service gives it another meaning.
    public var meaning: String {
        get { ownMeaning ?? status.title }
        set { ownMeaning = newValue == status.title ? nil : newValue }
    }
    private var ownMeaning: String?
    /// The number of the current or last attempt; 0 before the first.
    public var attempt = 0
    /// The current step; nil between steps.
    public var step: String?
    /// Percent, if known.
    public var progress: Int?
    /// Who asked for its cancellation; nil: it was not asked for.
    public var canceler: Canceler?
    /// Whether its cancellation was requested.
    public var isCanceled: Bool { canceler != nil }
    /// The result that a script of the work reported in this attempt.
    public var reported: JobResult?
    /// The output so far of the running program; nil if none runs.
    public var output: CapturedOutput?

    // MARK: History

    /// In the order of their start.
    public var attempts: [Attempt] = []
    /// The steps of all attempts in the order of their end.
    public var steps: [Step] = []
    /// Changes of the status since the job was created.
    public var statuses: [StatusChange] = []
    /// The lines of the report.
    public var report: [ReportLine] = []
    /// Number of lines that were dropped because the report was full.
    public var droppedLines = 0
    /// When its first attempt began.
    public var started: Timestamp?
    /// When it ended; nil while it is open.
    public var ended: Timestamp?
    /// From its start to its end, or until now; nil if unknown.
    public var seconds: Double?
    /// The result; nil until it is certain. The handlers of its end are called between that and its end.
    public var result: JobResult?
    /// The error and its hint; empty after a plain success.
    public var message = ""
    /// Why part of its history is missing; nil: it is complete.
    public var missing: String?

    /// The default priority.
    public static let usualPriority = 10

    /// A new job.
    public init(
        id: JobID, type: JobType, name: String, level: String = "", subject: JobSubject, client: String,
        priority: Int = usualPriority, created: Timestamp
    ) {
        self.id = id
        self.type = type
        self.name = name
        self.level = level
        self.subject = subject
        self.client = client
        self.priority = priority
        self.created = created
    }

    /// A unique name in Bacula's form: name and number.
    public var uniqueName: String { "\(name).\(id)" }

    /// Whether it has not ended.
    public var isOpen: Bool { ended == nil }

    /// How many of its attempts were interrupted: by a stop or a crash of the daemon, or by work that has precedence.
    public var interruptions: Int { attempts.count { $0.fate == .cutOff || $0.fate == .lost } }

    /// Without the parts that are stored separately or that exist only while it runs.
    var record: Job {
        var record = self
        (record.step, record.output, record.report) = (nil, nil, [])
        return record
    }

    /// The state when a new process resumes it. One that was cancelled stays so.
    var reopened: Job {
        var job = self
        (job.status, job.step, job.reported) = (isCanceled ? .canceled : .created, nil, nil)
        return job
    }

    /// The outcome of an open job that was certain, and that only was not closed, when the previous run of the daemon ended. Its work must not be
    /// done again. Without handlers it is not recorded by itself: then a good end of the last attempt is the outcome, and otherwise the request to
    /// cancel it.
    package var outcomeBeforeClosing: JobOutcome? {
        guard isOpen else { return nil }
        if let result { return JobOutcome(result, message: message) }
        if let last = attempts.last, last.fate == .ended, let result = last.result,
            result.isSuccess || result == .aborted && statuses.last?.letter == .running
        {
            return JobOutcome(result, message: last.message)
        }
        return canceler.map { .canceled(by: $0) }
    }

    /// The pre and post scripts that failed in the last attempt. Their messages are in the report.
    var scriptFailures: [String] {
        guard let last = attempts.last, last.fate == .ended else { return [] }
        return [("pre", last.pre), ("post", last.post)].filter { $0.1 == .failed }.map {
            "the \($0.0) script failed in attempt \(last.number)"
        }
    }

    // MARK: - Parts

    /// One attempt of a job.
    public struct Attempt: Hashable, Sendable, Codable {
        /// The fate of an attempt.
        public enum Fate: String, Hashable, Sendable, Codable {
            /// It runs, or its end is not recorded yet.
            case running
            /// It ended.
            case ended
            /// Interrupted by a stop of the daemon or by work that has precedence.
            case cutOff = "cut off"
            /// The daemon ended during it: a crash, a kill or a power failure.
            case lost
        }

        /// 1 for the first.
        public var number: Int
        /// When it began.
        public var began: Timestamp
        /// When it ended, if known.
        public var ended: Timestamp?
        /// Its fate.
        public var fate = Fate.running
        /// The status of its pre script; nil unless the attempt ended.
        public var pre: ScriptStatus?
        /// The result of its work; nil unless the attempt ended.
        public var result: JobResult?
        /// The error; empty after a plain success.
        public var message = ""
        /// The status of its post script; nil unless the attempt ended.
        public var post: ScriptStatus?
    }

    /// A step of an attempt that has ended: the pre script, a program of the body, the post script, or work without a program.
    public struct Step: Hashable, Sendable, Codable {
        /// A short noun, such as `pre script` or `rsnapshot`.
        public var name: String
        /// The number of its attempt.
        public var attempt: Int
        /// When it began.
        public var began: Timestamp
        /// Its duration.
        public var seconds: Double
        /// Its result.
        public var result: JobResult
        /// The program; nil for work without one.
        public var script: Program?
    }

    /// A program that was run: the file just before the start, and how it ended.
    public struct Program: Hashable, Sendable, Codable {
        /// The requested path; this and the other facts of the file are nil if the file could not be examined.
        public var path: String?
        /// The path with symbolic links resolved.
        public var resolvedPath: String?
        /// The checksum of the contents in hexadecimal digits.
        public var sha256: String?
        /// The file system's number.
        public var device: UInt64?
        /// The inode number.
        public var inode: UInt64?
        /// The owner's uid.
        public var owner: UInt32?
        /// Permission bits in octal digits.
        public var mode: String?
        /// The size in bytes.
        public var size: Int64?
        /// When the contents were last changed.
        public var modified: Timestamp?
        /// The arguments, argument 0 first.
        public var arguments: [String]
        /// `exit code 3` or `signal 9`; nil if it was not started.
        public var termination: String?
        /// What stopped it: `time limit` or `cancellation`; nil: nothing.
        public var endedBy: String?
        /// Why it was not started.
        public var refusal: String?
        /// The time from the request until it and its leftover processes ended; nil if it was not started.
        public var seconds: Double?
        /// Leftover processes, by name. The name of the member is in the JSON and must not change.
        public var survivors: [String] = []
        /// Its output; nil if it was not started, or in a record without the long parts.
        public var output: CapturedOutput?

        /// Records the file.
        mutating func note(_ file: ScriptFingerprint) {
            (path, resolvedPath, sha256) = (file.path.string, file.resolvedPath.string, file.sha256)
            (device, inode, owner, size) = (file.device, file.inode, file.owner, file.size)
            mode = String(file.mode, radix: 8)
            modified = Timestamp(secondsSince1970: 0) + file.modified
        }

        /// Records the end.
        mutating func note(_ end: ScriptResult) {
            termination = "\(end.termination)"
            endedBy =
                switch end.cause {
                case .itself: nil
                case .timeLimit: "time limit"
                case .cancellation: "cancellation"
                }
            (seconds, survivors, output) = (end.duration.seconds, end.leftovers, end.output)
        }
    }

    /// A change of the status.
    public struct StatusChange: Hashable, Sendable, Codable {
        /// When.
        public var time: Timestamp
        /// The new status.
        public var letter: JobStatus
    }
}

/// Who cancels a job. The raw values are in the JSON of jobs.
public enum Canceler: String, CaseIterable, Hashable, Sendable, Codable {
    /// A person, by a command.
    case `operator`
    /// A handler of the site, by `job.cancel`.
    case handler

    /// Who it is, in messages.
    var words: String {
        switch self {
        case .operator: "an operator"
        case .handler: "an event handler"
        }
    }
}

/// A line of a job's report.
public struct ReportLine: Hashable, Sendable, Codable {
    /// The author of a line; `daemon` also about scripts and handlers.
    public enum Source: String, Hashable, Sendable, Codable { case daemon, script, handler, reporter }

    /// When.
    public var time: Timestamp
    /// The author.
    public var source: Source
    /// Without line feeds and control characters.
    public var text: String

    /// A line.
    public init(_ source: Source, _ text: String, at time: Timestamp) {
        self.time = time
        self.source = source
        self.text = text
    }
}

/// The number of a job: unique, never reused, increasing also across restarts.
public struct JobID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The number, from 1 on.
    public let number: UInt64

    /// A number from a ``JobIDSource``.
    public init(_ number: UInt64) { self.number = number }

    /// The number in decimal digits.
    public var description: String { String(number) }
    /// Older jobs have smaller numbers.
    public static func < (left: Self, right: Self) -> Bool { left.number < right.number }
}

/// The kind of work of a job. A daemon can define types besides the three below.
public struct JobType: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// The name in settings, in the history and in events.
    public let rawValue: String

    /// The meaning of a name is up to the daemon.
    public init(rawValue: String) { self.rawValue = rawValue }

    /// A provisioning request; its levels are `add`, `modify` and `delete`.
    public static let provisioning = JobType(rawValue: "Provisioning")
    /// A backup; its levels are `hourly` to `yearly`.
    public static let backup = JobType(rawValue: "Backup")
    /// A script of the site (specification: rows.md L1).
    public static let admin = JobType(rawValue: "Admin")

    /// The name.
    public var description: String { rawValue }
}

/// The subject of a job. At most one job per subject runs at a time, of any type.
public struct JobSubject: Hashable, Sendable, CustomStringConvertible {
    private enum Form: Hashable, Sendable {
        /// Its text is in lower case.
        case uuid(UUID128)
        case name(String)
    }

    private let form: Form

    /// - Parameter text: an entry's UUID, or `job NAME` for a script without another subject. Equal texts are equal
    ///   subjects.
    public init(_ text: String) {
        let uuid =
            text.utf8.contains { (UInt8(ascii: "A")...UInt8(ascii: "F")).contains($0) } ? nil : UUID128(text: text)
        form = uuid.map { .uuid($0) } ?? .name(text)
    }

    /// The subject of an entry's UUID.
    public init(_ uuid: UUID128) { form = .uuid(uuid) }

    /// The text.
    public var description: String {
        switch form {
        case .name(let text): text
        case .uuid(let uuid): uuid.description
        }
    }

    /// The entry's UUID; nil for a subject that is none.
    package var uuid: UUID128? { if case .uuid(let uuid) = form { uuid } else { nil } }
}
