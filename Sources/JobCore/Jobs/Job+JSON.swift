import FoundationEssentials
import Glibc

// How a job and its values stand in JSON. Times are `YYYYMMDDThhmmssZ` in UTC.

extension Job: Codable {
    /// Of the JSON of jobs; it grows when a key changes its meaning or goes.
    public static let version = 1

    private enum Key: String, CodingKey {
        case version, job, uniqueName, subject, priority, isCanceled, reported, attempts, steps, statuses, report
        case droppedLines, output, missing
    }

    /// What ``encode(to:)`` has written.
    public init(from decoder: any Decoder) throws {
        let record = try decoder.container(keyedBy: Key.self)
        self = try record.decode(JobLine.self, forKey: .job).job
        subject = JobSubject(try record.decode(String.self, forKey: .subject))
        priority = try record.decode(Int.self, forKey: .priority)
        isCanceled = try record.decode(Bool.self, forKey: .isCanceled)
        reported = try record.decodeIfPresent(JobResult.self, forKey: .reported)
        attempts = try record.decode([Attempt].self, forKey: .attempts)
        steps = try record.decode([Step].self, forKey: .steps)
        statuses = try record.decode([StatusChange].self, forKey: .statuses)
        report = try record.decode([ReportLine].self, forKey: .report)
        droppedLines = try record.decode(Int.self, forKey: .droppedLines)
        output = try record.decodeIfPresent(CapturedOutput.self, forKey: .output)
        missing = try record.decodeIfPresent(String.self, forKey: .missing)
    }

    /// The line of a list under the key `job`, and everything else beside it.
    public func encode(to encoder: any Encoder) throws {
        var record = encoder.container(keyedBy: Key.self)
        try record.encode(Self.version, forKey: .version)
        try record.encode(JobLine(self), forKey: .job)
        try record.encode(uniqueName, forKey: .uniqueName)
        try record.encode(subject.description, forKey: .subject)
        try record.encode(priority, forKey: .priority)
        try record.encode(isCanceled, forKey: .isCanceled)
        try record.encodeIfPresent(reported, forKey: .reported)
        try record.encode(attempts, forKey: .attempts)
        try record.encode(steps, forKey: .steps)
        try record.encode(statuses, forKey: .statuses)
        try record.encode(report, forKey: .report)
        try record.encode(droppedLines, forKey: .droppedLines)
        try record.encodeIfPresent(output, forKey: .output)
        try record.encodeIfPresent(missing, forKey: .missing)
    }
}

/// A job as a line of a list: without subject, priority, attempts, steps, letters over time and report.
public struct JobLine: Hashable, Sendable, Codable {
    /// The job; of one that was read, what a line does not tell is empty.
    public var job: Job

    /// The line of a job.
    public init(_ job: Job) { self.job = job }

    private enum Key: String, CodingKey {
        case version, id, type, level, name, client, status, meaning, attempt, step, progress, created, started, ended
        case seconds, result, message, isOpen
    }

    /// What ``encode(to:)`` has written.
    public init(from decoder: any Decoder) throws {
        let line = try decoder.container(keyedBy: Key.self)
        job = Job(
            id: try line.decode(JobID.self, forKey: .id),
            type: JobType(rawValue: try line.decode(String.self, forKey: .type)),
            name: try line.decode(String.self, forKey: .name), level: try line.decode(String.self, forKey: .level),
            subject: JobSubject(""), client: try line.decode(String.self, forKey: .client),
            created: try line.decode(WallTime.self, forKey: .created))
        job.status = try line.decode(JobStatus.self, forKey: .status)
        job.meaning = try line.decode(String.self, forKey: .meaning)
        job.attempt = try line.decode(Int.self, forKey: .attempt)
        job.step = try line.decodeIfPresent(String.self, forKey: .step)
        job.progress = try line.decodeIfPresent(Int.self, forKey: .progress)
        job.started = try line.decodeIfPresent(WallTime.self, forKey: .started)
        job.ended = try line.decodeIfPresent(WallTime.self, forKey: .ended)
        job.seconds = try line.decodeIfPresent(Double.self, forKey: .seconds)
        job.result = try line.decodeIfPresent(JobResult.self, forKey: .result)
        job.message = try line.decode(String.self, forKey: .message)
    }

    /// One object with values alone; what is nil is left out.
    public func encode(to encoder: any Encoder) throws {
        var line = encoder.container(keyedBy: Key.self)
        try line.encode(Job.version, forKey: .version)
        try line.encode(job.id, forKey: .id)
        try line.encode(job.type.rawValue, forKey: .type)
        try line.encode(job.level, forKey: .level)
        try line.encode(job.name, forKey: .name)
        try line.encode(job.client, forKey: .client)
        try line.encode(job.status, forKey: .status)
        try line.encode(job.meaning, forKey: .meaning)
        try line.encode(job.attempt, forKey: .attempt)
        try line.encodeIfPresent(job.step, forKey: .step)
        try line.encodeIfPresent(job.progress, forKey: .progress)
        try line.encode(job.created, forKey: .created)
        try line.encodeIfPresent(job.started, forKey: .started)
        try line.encodeIfPresent(job.ended, forKey: .ended)
        try line.encodeIfPresent(job.seconds, forKey: .seconds)
        try line.encodeIfPresent(job.result, forKey: .result)
        try line.encode(job.message, forKey: .message)
        try line.encode(job.isOpen, forKey: .isOpen)
    }
}

extension JobID: Codable {
    /// A number.
    public init(from decoder: any Decoder) throws { self.init(try decoder.singleValueContainer().decode(UInt64.self)) }

    /// A number.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(number)
    }
}

extension JobStatus: Codable {
    /// - Returns: nil for a text that is none of the letters.
    public init?(letter: String) {
        guard letter.count == 1, let first = letter.first else { return nil }
        self.init(rawValue: first)
    }

    /// The letter.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let status = Self(letter: try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "not a letter of a job's status")
        }
        self = status
    }

    /// The letter.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(letter)
    }
}

extension CapturedOutput: Codable {
    private enum CodingKeys: String, CodingKey { case head, dropped, tail }

    /// What ``encode(to:)`` has written.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            head: Array(try container.decode(Data.self, forKey: .head)),
            tail: Array(try container.decode(Data.self, forKey: .tail)),
            dropped: try container.decode(Int.self, forKey: .dropped))
    }

    /// Head and tail as the encoder writes bytes: by itself in base64, which loses none.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(Data(head), forKey: .head)
        try container.encode(dropped, forKey: .dropped)
        try container.encode(Data(tail), forKey: .tail)
    }
}

extension WallTime: Codable {
    /// Reads `YYYYMMDDThhmmssZ`; nil for anything else. A day or an hour that does not exist becomes the one that the calendar goes on to.
    public init?(timestamp text: String) {
        let signs = Array(text.utf8)
        guard signs.count == 16, signs[8] == UInt8(ascii: "T"), signs[15] == UInt8(ascii: "Z"),
            signs.indices.allSatisfy({ $0 == 8 || $0 == 15 || 0x30...0x39 ~= signs[$0] })
        else { return nil }
        func number(_ range: Range<Int>) -> Int32 { signs[range].reduce(0) { $0 * 10 + Int32($1) - 0x30 } }
        var broken = tm()
        broken.tm_year = number(0..<4) - 1900
        broken.tm_mon = number(4..<6) - 1
        broken.tm_mday = number(6..<8)
        broken.tm_hour = number(9..<11)
        broken.tm_min = number(11..<13)
        broken.tm_sec = number(13..<15)
        self.init(secondsSince1970: Int64(timegm(&broken)))
    }

    /// `YYYYMMDDThhmmssZ`, in UTC; fractions of a second are cut off.
    public var timestamp: String {
        var seconds = time_t(secondsSince1970)
        var broken = tm()
        gmtime_r(&seconds, &broken)
        let pairs = [
            (broken.tm_year + 1900) / 100, (broken.tm_year + 1900) % 100, broken.tm_mon + 1, broken.tm_mday,
            broken.tm_hour, broken.tm_min, broken.tm_sec,
        ]
        return String(unsafeUninitializedCapacity: 16) { text in
            var place = 0
            for (index, pair) in pairs.enumerated() {
                if index == 4 {
                    text[place] = UInt8(ascii: "T")
                    place += 1
                }
                text[place] = 0x30 + UInt8(truncatingIfNeeded: pair / 10 % 10)
                text[place + 1] = 0x30 + UInt8(truncatingIfNeeded: pair % 10)
                place += 2
            }
            text[place] = UInt8(ascii: "Z")
            return place + 1
        }
    }

    /// A ``timestamp``.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let time = Self(timestamp: text) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "\(text) is no time")
        }
        self = time
    }

    /// A ``timestamp``.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(timestamp)
    }

    /// What lies beyond the range becomes its end.
    init(microsecondsSince1970: Int64) {
        let (product, overflow) = microsecondsSince1970.multipliedReportingOverflow(by: 1_000)
        self.init(nanosecondsSince1970: !overflow ? product : microsecondsSince1970 < 0 ? .min : .max)
    }

    /// Rounded towards the past.
    var microsecondsSince1970: Int64 {
        let (quotient, remainder) = nanosecondsSince1970.quotientAndRemainder(dividingBy: 1_000)
        return remainder < 0 ? quotient - 1 : quotient
    }
}

extension Duration {
    /// For people and JSON.
    public var seconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}
