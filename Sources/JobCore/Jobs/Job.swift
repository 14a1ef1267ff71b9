/// One unit of work on one subject: what was asked for, its state, and all that became of it. It keeps its number over all its attempts.
///
/// The registry holds the open ones (``JobRegistry``), the history stores them, and the control socket and `--json` send them; all in the same
/// JSON. Long parts, the report's lines and the output of programs, are stored beside the record.
public struct Job: Hashable, Sendable {
    // MARK: What is asked for

    /// Given once, for ever.
    public let id: JobID
    /// What kind of work it is.
    public let type: JobType
    /// What the work is called; many jobs have the same name.
    public let name: String
    /// Which variant of the work it is, such as `add` or `daily`; empty where there is only one.
    public var level: String
    /// What it works on.
    public internal(set) var subject: JobSubject
    /// For whom it is done, for people: the account's uid, or the name of a script.
    public let client: String
    /// 1 is more urgent than 10.
    public var priority: Int
    /// When it was asked for.
    public internal(set) var created: WallTime

    // MARK: State

    /// Its letter.
    public var status = JobStatus.created
    /// The letter in words, unless it means something else to the reader.
    public var meaning: String {
        get { ownMeaning ?? status.title }
        set { ownMeaning = newValue == status.title ? nil : newValue }
    }
    private var ownMeaning: String?
    /// The attempt that runs or ran last; 0 before the first.
    public var attempt = 0
    /// The step that runs; nil between steps.
    public var step: String?
    /// Percent, where anybody said.
    public var progress: Int?
    /// Whether somebody has asked to cancel it.
    public var isCanceled = false
    /// The result that the script itself reported in this attempt.
    public var reported: JobResult?
    /// What the program that runs has written so far; nil when none runs.
    public var output: CapturedOutput?

    // MARK: What became of it

    /// In the order in which they began.
    public var attempts: [Attempt] = []
    /// Of all attempts, in the order in which they ended.
    public var steps: [Step] = []
    /// Its letters over time; that it was created is not told again.
    public var statuses: [StatusChange] = []
    /// What was written to its report.
    public var report: [ReportLine] = []
    /// Lines that came after the report was full.
    public var droppedLines = 0
    /// When its first attempt began.
    public var started: WallTime?
    /// When it came to its end; nil while it is open.
    public var ended: WallTime?
    /// From its start to its end, or to the moment when it was looked at; nil while neither is known.
    public var seconds: Double?
    /// What it came to; nil while it is open.
    public var result: JobResult?
    /// What was wrong and what fixes it; empty after a plain success.
    public var message = ""
    /// Why some of its past is missing here; nil: nothing is.
    public var missing: String?

    /// The priority of a job that asks for none.
    public static let usualPriority = 10

    /// A job as it is asked for.
    public init(
        id: JobID, type: JobType, name: String, level: String = "", subject: JobSubject, client: String,
        priority: Int = usualPriority, created: WallTime
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

    /// The name that no other job has, in Bacula's way: name and number.
    public var uniqueName: String { "\(name).\(id)" }

    /// Whether it has not come to its end.
    public var isOpen: Bool { ended == nil }

    /// How many of its attempts were interrupted: by a stop of the daemon, by its end, or by work that goes before.
    public var interruptions: Int { attempts.count { $0.fate == .cutOff || $0.fate == .lost } }

    /// Without what is stored beside the record, and without what holds only while it runs.
    var record: Job {
        var record = self
        (record.step, record.output, record.report) = (nil, nil, [])
        return record
    }

    /// As it is taken up by this process after an earlier one opened it.
    var reopened: Job {
        var job = self
        (job.status, job.step, job.reported, job.isCanceled) = (.created, nil, nil, false)
        return job
    }

    // MARK: - Parts

    /// One try of a job.
    public struct Attempt: Hashable, Sendable, Codable {
        /// What became of an attempt.
        public enum Fate: String, Hashable, Sendable, Codable {
            /// It runs, or its end is not written yet.
            case running
            /// It came to its end.
            case ended
            /// A stop of the daemon, or work that goes before, ended it before its time.
            case cutOff = "cut off"
            /// The daemon went away in the middle of it: by a crash, a kill, or a loss of power.
            case lost
        }

        /// 1 for the first.
        public var number: Int
        /// When it began.
        public var began: WallTime
        /// When it ended, where that is known.
        public var ended: WallTime?
        /// What became of it.
        public var fate = Fate.running
        /// What became of its pre script; nil unless it ended.
        public var pre: ScriptStatus?
        /// What its work came to; nil unless it ended.
        public var result: JobResult?
        /// What was wrong; empty after a plain success.
        public var message = ""
        /// What became of its post script; nil unless it ended.
        public var post: ScriptStatus?
    }

    /// A step of an attempt that has ended: the pre script, a program of the body, the post script, or work without a program.
    public struct Step: Hashable, Sendable, Codable {
        /// A short noun, such as `pre script` or `rsnapshot`.
        public var name: String
        /// The attempt that it belongs to.
        public var attempt: Int
        /// When it began.
        public var began: WallTime
        /// How long it took.
        public var seconds: Double
        /// What it came to.
        public var result: JobResult
        /// The program that was run; nil for work without one.
        public var script: Program?
    }

    /// A program that was run: the file as it was just before the start, and what came of it.
    public struct Program: Hashable, Sendable, Codable {
        /// As it was asked for; nil, as all of the file's facts, when it could not be looked at.
        public var path: String?
        /// Without symbolic links.
        public var resolvedPath: String?
        /// Of the contents, in hexadecimal digits.
        public var sha256: String?
        /// The file system's number.
        public var device: UInt64?
        /// The file's number on its file system.
        public var inode: UInt64?
        /// The owner's user number.
        public var owner: UInt32?
        /// Permission bits in octal digits.
        public var mode: String?
        /// In bytes.
        public var size: Int64?
        /// When the contents were changed last.
        public var modified: WallTime?
        /// Argument 0 first.
        public var arguments: [String]
        /// `exit code 3` or `signal 9`; nil when it was not started.
        public var termination: String?
        /// Who ended it, when it did not end by itself.
        public var endedBy: String?
        /// Why it was not started.
        public var refusal: String?
        /// From the request to the end of all that it started; nil when it was not started.
        public var seconds: Double?
        /// Processes that it left behind, by name.
        public var survivors: [String] = []
        /// What it wrote; nil when it was not started, and in a record without its long parts.
        public var output: CapturedOutput?

        /// Which file it was.
        mutating func note(_ file: ScriptIdentity) {
            (path, resolvedPath, sha256) = (file.path.string, file.resolvedPath.string, file.sha256)
            (device, inode, owner, size) = (file.device, file.inode, file.owner, file.size)
            mode = String(file.mode, radix: 8)
            modified = WallTime(secondsSince1970: 0) + file.modified
        }

        /// How it ended.
        mutating func note(_ end: ScriptResult) {
            termination =
                switch end.termination {
                case .exited(let code): "exit code \(code)"
                case .signaled(let number): "signal \(number)"
                }
            endedBy =
                switch end.cause {
                case .itself: nil
                case .timeLimit: "time limit"
                case .cancellation: "cancellation"
                }
            (seconds, survivors, output) = (end.duration.seconds, end.survivors, end.output)
        }
    }

    /// A letter, and since when.
    public struct StatusChange: Hashable, Sendable, Codable {
        /// Since when.
        public var time: WallTime
        /// The letter.
        public var letter: JobStatus
    }
}

/// A line of a job's report.
public struct ReportLine: Hashable, Sendable, Codable {
    /// Who says it.
    public enum Source: String, Hashable, Sendable, Codable { case daemon, script, handler, reporter }

    /// When.
    public var time: WallTime
    /// Who says it.
    public var source: Source
    /// Without a line feed and without control characters.
    public var text: String

    /// A line.
    public init(_ source: Source, _ text: String, at time: WallTime) {
        self.time = time
        self.source = source
        self.text = text
    }
}

/// The number of a job: given once, never again, growing also over restarts.
public struct JobID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// From 1 on.
    public let number: UInt64

    /// A number that a ``JobIDSource`` has given.
    public init(_ number: UInt64) { self.number = number }

    /// The number in decimal digits.
    public var description: String { String(number) }
    /// Older jobs have smaller numbers.
    public static func < (left: Self, right: Self) -> Bool { left.number < right.number }
}

/// What kind of work a job is. A daemon can have types of its own besides the three that are named here.
public struct JobType: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// As it stands in settings, the history and the events.
    public let rawValue: String

    /// Any name: what it means is the daemon's business.
    public init(rawValue: String) { self.rawValue = rawValue }

    /// An account's wish is carried out; its levels are `add`, `modify` and `delete`.
    public static let provisioning = JobType(rawValue: "Provisioning")
    /// Snapshots are made; its levels are `hourly` to `yearly`.
    public static let backup = JobType(rawValue: "Backup")
    /// A user's script is run (specification: rows.md L1).
    public static let admin = JobType(rawValue: "Admin")

    /// The name.
    public var description: String { rawValue }
}

/// What a job works on. There is one job at a time for each subject, whatever the job's type.
public struct JobSubject: Hashable, Sendable, CustomStringConvertible {
    /// A great many entries can wait, and their UUIDs take much less room as numbers.
    private enum Form: Hashable, Sendable {
        case uuid(UInt64, UInt64)
        case name(String)
    }

    private let form: Form

    /// - Parameter text: an entry's UUID, or `job NAME` for a script that works on nothing else. Equal texts are the same subject.
    public init(_ text: String) { form = Self.uuid(text).map { .uuid($0, $1) } ?? .name(text) }

    /// The text.
    public var description: String {
        switch form {
        case .name(let text): text
        case .uuid(let high, let low): Self.text(high, low)
        }
    }

    /// An entry's UUID as two numbers, the first of them with the first eight bytes.
    package init(uuid high: UInt64, _ low: UInt64) { form = .uuid(high, low) }

    /// The two numbers of an entry's UUID; nil for a subject that is none.
    package var uuid: (high: UInt64, low: UInt64)? {
        if case .uuid(let high, let low) = form { (high, low) } else { nil }
    }

    /// Whether a hyphen is at this place of a UUID's text (RFC 9562, section 4).
    private static func isHyphen(_ place: Int) -> Bool { place == 8 || place == 13 || place == 18 || place == 23 }

    /// - Returns: nil unless the text is a UUID in lower case.
    private static func uuid(_ text: String) -> (UInt64, UInt64)? {
        guard text.utf8.count == 36 else { return nil }
        var numbers: (UInt64, UInt64) = (0, 0)
        for (place, byte) in text.utf8.enumerated() {
            let digit: UInt8
            switch byte {
            case 0x30...0x39: digit = byte - 0x30
            case 0x61...0x66: digit = byte - 0x61 + 10
            default:
                guard isHyphen(place), byte == UInt8(ascii: "-") else { return nil }
                continue
            }
            guard !isHyphen(place) else { return nil }
            numbers = (numbers.0 << 4 | numbers.1 >> 60, numbers.1 << 4 | UInt64(digit))
        }
        return numbers
    }

    private static func text(_ high: UInt64, _ low: UInt64) -> String {
        String(unsafeUninitializedCapacity: 36) { text in
            var rest = (high, low)
            for place in (0..<36).reversed() {
                if isHyphen(place) {
                    text[place] = UInt8(ascii: "-")
                } else {
                    let digit = UInt8(truncatingIfNeeded: rest.1 & 0xF)
                    text[place] = digit < 10 ? 0x30 + digit : 0x61 + digit - 10
                    rest = (rest.0 >> 4, rest.1 >> 4 | rest.0 << 60)
                }
            }
            return 36
        }
    }
}
