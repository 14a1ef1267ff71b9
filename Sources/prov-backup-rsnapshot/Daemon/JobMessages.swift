import Glibc
import JobCore
import Provisioning

/// A point in time as messages hold it: `YYYYMMDDThhmmssZ`.
struct Moment: Codable, Hashable, Sendable {
    let time: WallTime

    /// - Parameter time: fractions of a second are cut off.
    init(_ time: WallTime) { self.time = WallTime(secondsSince1970: time.secondsSince1970) }

    init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let stamp = ProvisioningTimestamp(parsing: text) else {
            throw DecodingError.dataCorrupted(
                DecodingError.Context(codingPath: decoder.codingPath, debugDescription: "\(text) is no time"))
        }
        time = stamp.time
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(ProvisioningTimestamp(time).description)
    }

    /// As the clock on the wall shows it: `YYYY-MM-DD hh:mm:ss`.
    var local: String {
        var seconds = time_t(time.secondsSince1970)
        var broken = tm()
        guard localtime_r(&seconds, &broken) != nil else { return "?" }
        var buffer = [CChar](repeating: 0, count: 32)
        let count = strftime(&buffer, buffer.count, "%Y-%m-%d %H:%M:%S", &broken)
        return String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// Which jobs a command asks for. What is nil or empty is no condition.
struct JobQuery: Codable, Hashable, Sendable {
    /// The account's uid, or a script's name.
    var client: String?
    var type: String?
    /// Letters of ``JobStatus``.
    var statuses = ""
    /// Asked for at this time or later.
    var since: Moment?
    /// Asked for at this time or earlier.
    var until: Moment?
    /// The newest so many; at least 1.
    var limit = 50

    func includes(_ job: JobLine) -> Bool {
        (client == nil || client == job.client) && (type == nil || type == job.type)
            && (statuses.isEmpty || statuses.contains(job.status))
            && since.map { $0.time <= job.created.time } ?? true && until.map { job.created.time <= $0.time } ?? true
    }
}

/// A job as a line of a list.
struct JobLine: Codable, Hashable, Sendable {
    let id: UInt64
    var type: String
    var level: String
    var name: String
    /// The account's uid, or the script's name.
    var client: String
    /// One letter, and what it stands for.
    var status: String
    var meaning: String
    /// 0 before the first.
    var attempt = 0
    /// What it does just now.
    var step: String?
    /// Percent, where anybody said.
    var progress: Int?
    var created: Moment
    var started: Moment?
    var ended: Moment?
    /// From its start to its end, or to now.
    var seconds: Double?
    /// nil until it has ended.
    var result: String?
    /// What was wrong and what mends it.
    var message = ""
    /// Whether it has not come to its end.
    var isOpen: Bool

    var isGood: Bool { result.flatMap(JobResult.init)?.isSuccess ?? false }
}

/// Jobs, the oldest first.
struct JobList: Codable, Hashable, Sendable {
    var lines: [JobLine]
    /// Why those that have ended are not among them, with the cure; nil when they are.
    var missing: String?
}

/// Everything that is known of a job.
struct JobDetails: Codable, Hashable, Sendable {
    struct Status: Codable, Hashable, Sendable {
        let time: Moment
        let letter: String
    }

    struct Attempt: Codable, Hashable, Sendable {
        let number: Int
        let began: Moment
        var ended: Moment?
        /// `running`, `ended`, `cut off` by the daemon's stop, or `lost` with the daemon.
        var fate: String
        var pre: String?
        var result: String?
        var message = ""
        var post: String?
    }

    struct Step: Codable, Hashable, Sendable {
        let name: String
        let attempt: Int
        let began: Moment
        let seconds: Double
        let result: String
        var script: Script?
    }

    /// A program that was run: the file as it was then, and what came of it.
    struct Script: Codable, Hashable, Sendable {
        var path: String?
        /// Without symbolic links.
        var resolvedPath: String?
        var sha256: String?
        var device: UInt64?
        var inode: UInt64?
        var owner: UInt32?
        /// Octal digits.
        var mode: String?
        var size: Int64?
        var modified: Moment?
        /// Argument 0 first.
        var arguments: [String]
        /// `exit code 3` or `signal 9`; nil when it was not started.
        var termination: String?
        /// Who ended it, when it did not end by itself.
        var endedBy: String?
        /// Why it was not started.
        var refusal: String?
        var seconds: Double?
        /// Processes that it left behind.
        var survivors: [String] = []
        var output: JobOutput?
    }

    struct Line: Codable, Hashable, Sendable {
        var time: Moment?
        let source: String
        let text: String
    }

    var job: JobLine
    var uniqueName: String
    var subject: String
    var priority: Int
    var isCanceled = false
    /// What the script itself reported in the attempt that runs.
    var reported: String?
    var attempts: [Attempt] = []
    var steps: [Step] = []
    var statuses: [Status] = []
    var report: [Line] = []
    /// Lines that found no place in the report.
    var droppedLines = 0
    /// What the program that runs just now has written so far.
    var output: JobOutput?
    /// Why what is past of it is missing here, with the cure; nil when it is not.
    var missing: String?
}
