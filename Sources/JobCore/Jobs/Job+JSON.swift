import FoundationEssentials

// The JSON of jobs. Times are `YYYYMMDDThhmmssZ` in UTC.

extension Job: Codable {
    /// The version of the JSON format; it increases when a key changes its meaning or is removed.
    public static let version = 1

    private enum Key: String, CodingKey {
        case version, job, uniqueName, subject, priority, isCanceled, canceler, reported, attempts, steps, statuses,
            report
        case droppedLines, output, missing
    }

    /// What ``encode(to:)`` has written.
    public init(from decoder: any Decoder) throws {
        let record = try decoder.container(keyedBy: Key.self)
        self = try record.decode(JobLine.self, forKey: .job).job
        subject = JobSubject(try record.decode(String.self, forKey: .subject))
        priority = try record.decode(Int.self, forKey: .priority)
        // Earlier versions do not name the canceler.
        canceler =
            try record.decode(Bool.self, forKey: .isCanceled)
            ? try record.decodeIfPresent(Canceler.self, forKey: .canceler) ?? .operator : nil
        reported = try record.decodeIfPresent(JobResult.self, forKey: .reported)
        attempts = try record.decode([Attempt].self, forKey: .attempts)
        steps = try record.decode([Step].self, forKey: .steps)
        statuses = try record.decode([StatusChange].self, forKey: .statuses)
        report = try record.decode([ReportLine].self, forKey: .report)
        droppedLines = try record.decode(Int.self, forKey: .droppedLines)
        output = try record.decodeIfPresent(CapturedOutput.self, forKey: .output)
        missing = try record.decodeIfPresent(String.self, forKey: .missing)
    }

    /// The list line under the key `job`, and everything else next to it.
    public func encode(to encoder: any Encoder) throws {
        var record = encoder.container(keyedBy: Key.self)
        try record.encode(Self.version, forKey: .version)
        try record.encode(JobLine(self), forKey: .job)
        try record.encode(uniqueName, forKey: .uniqueName)
        try record.encode(subject.description, forKey: .subject)
        try record.encode(priority, forKey: .priority)
        try record.encode(isCanceled, forKey: .isCanceled)
        try record.encodeIfPresent(canceler, forKey: .canceler)
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

/// A job as a line of a list: without subject, priority, attempts, steps, status changes and report.
package struct JobLine: Hashable, Sendable, Codable {
    /// The job; after decoding, the members that a line does not contain are empty.
    package var job: Job

    /// The line of a job.
    package init(_ job: Job) { self.job = job }

    private enum Key: String, CodingKey {
        case version, id, type, level, name, client, status, meaning, attempt, step, progress, created, started, ended
        case seconds, result, message, isOpen
    }

    /// What ``encode(to:)`` has written.
    package init(from decoder: any Decoder) throws {
        let line = try decoder.container(keyedBy: Key.self)
        job = Job(
            id: try line.decode(JobID.self, forKey: .id),
            type: JobType(rawValue: try line.decode(String.self, forKey: .type)),
            name: try line.decode(String.self, forKey: .name), level: try line.decode(String.self, forKey: .level),
            subject: JobSubject(""), client: try line.decode(String.self, forKey: .client),
            created: try line.decode(Timestamp.self, forKey: .created))
        job.status = try line.decode(JobStatus.self, forKey: .status)
        job.meaning = try line.decode(String.self, forKey: .meaning)
        job.attempt = try line.decode(Int.self, forKey: .attempt)
        job.step = try line.decodeIfPresent(String.self, forKey: .step)
        job.progress = try line.decodeIfPresent(Int.self, forKey: .progress)
        job.started = try line.decodeIfPresent(Timestamp.self, forKey: .started)
        job.ended = try line.decodeIfPresent(Timestamp.self, forKey: .ended)
        job.seconds = try line.decodeIfPresent(Double.self, forKey: .seconds)
        job.result = try line.decodeIfPresent(JobResult.self, forKey: .result)
        job.message = try line.decode(String.self, forKey: .message)
    }

    /// One flat object; nil values are left out.
    package func encode(to encoder: any Encoder) throws {
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

    /// Head and tail are base64, which preserves every byte.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(Data(head), forKey: .head)
        try container.encode(dropped, forKey: .dropped)
        try container.encode(Data(tail), forKey: .tail)
    }
}

extension Duration {
    /// For messages and JSON.
    public var seconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}
