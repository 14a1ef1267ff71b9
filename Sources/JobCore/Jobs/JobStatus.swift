/// The status of a job, as one of Bacula's letters (specification: rows.md B9); ``title`` is the status in words. A
/// waiting job has the status of what it waits for.
public enum JobStatus: String, CaseIterable, Hashable, Sendable, Codable {
    case created = "C"
    case running = "R"
    case blocked = "B"
    case successful = "T"
    case terminatedWithErrors = "E"
    case nonFatalError = "e"
    case fatalError = "f"
    case differences = "D"
    case canceled = "A"
    case waitingForClient = "F"
    case waitingForStorageDaemon = "S"
    case waitingForNewMedia = "m"
    case waitingForMount = "M"
    case waitingForStorage = "s"
    case waitingForJob = "j"
    case waitingForClientResource = "c"
    case waitingForMaximumJobs = "d"
    case waitingForStartTime = "t"
    case waitingForPriority = "p"

    /// The weight for combining statuses: the heaviest counts
    /// (specification: jobs-and-scripts.md#statuses-and-results). Statuses that the specification does not weigh have the weight of
    /// the nearest in meaning.
    public var weight: Int {
        switch self {
        case .successful: 10
        case .created, .running, .blocked, .waitingForClient, .waitingForStorageDaemon, .waitingForNewMedia,
            .waitingForMount, .waitingForStorage, .waitingForJob, .waitingForClientResource, .waitingForMaximumJobs,
            .waitingForStartTime, .waitingForPriority:
            15
        case .nonFatalError, .differences: 20
        case .terminatedWithErrors: 25
        case .canceled: 90
        case .fatalError: 100
        }
    }

    /// Whether the job has ended.
    public var isFinal: Bool {
        switch self {
        case .successful, .terminatedWithErrors, .nonFatalError, .fatalError, .differences, .canceled: true
        default: false
        }
    }

    /// The status in words.
    public var title: String {
        switch self {
        case .created: "created, not yet running"
        case .running: "running"
        case .blocked: "blocked"
        case .successful: "completed successfully"
        case .terminatedWithErrors: "terminated with errors"
        case .nonFatalError: "non-fatal error"
        case .fatalError: "fatal error"
        case .differences: "verify found differences"
        case .canceled: "canceled by user"
        case .waitingForClient: "waiting for client"
        case .waitingForStorageDaemon: "waiting for storage daemon"
        case .waitingForNewMedia: "waiting for new media"
        case .waitingForMount: "waiting for media mount"
        case .waitingForStorage: "waiting for storage resource"
        case .waitingForJob: "waiting for job resource"
        case .waitingForClientResource: "waiting for client resource"
        case .waitingForMaximumJobs: "waiting on maximum jobs"
        case .waitingForStartTime: "waiting on start time"
        case .waitingForPriority: "waiting on higher priority jobs"
        }
    }

    /// The letter.
    public var letter: String { rawValue }
}

extension JobResult {
    /// The status of a job with this result.
    public var status: JobStatus {
        switch self {
        case .success: .successful
        case .warnings: .nonFatalError
        case .failed, .missed, .undefined, .unknown: .terminatedWithErrors
        case .aborted: .canceled
        case .wrongConfiguration: .fatalError
        }
    }

    /// The heavier of two (specification: rows.md L8); if they weigh the same, the first.
    public func heavier(_ other: Self) -> Self { other.status.weight > status.weight ? other : self }

    /// The number that a post script receives for this result (specification: rows.md D4), which is also the
    /// reporter's number (specification: rows.md L6).
    public var integer: Int32 {
        switch self {
        case .success: 0
        case .failed: 1
        case .aborted: 2
        case .warnings: 3
        case .missed: 4
        case .wrongConfiguration: 5
        case .undefined, .unknown: 255
        }
    }
}

/// The result of a unit of work, independent of the program that did it
/// (specification: jobs-and-scripts.md#statuses-and-results).
///
/// Exit codes differ from program to program: see ``ExitProfile``.
public enum JobResult: String, CaseIterable, Hashable, Sendable, Codable {
    /// Done without problems.
    case success
    /// Not done, or not completely.
    case failed
    /// Stopped by a person or by the program itself.
    case aborted
    /// Done, with warnings.
    case warnings
    /// Not run when it was due.
    case missed
    /// Cannot be done until a person changes something.
    case wrongConfiguration = "wrong configuration"
    /// The program reports that it does not know.
    case undefined
    /// No result was reported.
    case unknown

    /// Whether the work was done.
    public var isSuccess: Bool { self == .success || self == .warnings }
}

/// The status of a pre or post script (Druva's terms).
public enum ScriptStatus: String, CaseIterable, Hashable, Sendable, Codable {
    /// It ended with 0.
    case successful = "Successful"
    /// It ended with another code, or was stopped.
    case failed = "Failed"
    /// It is missing, or was left out.
    case skipped = "Skipped"
    /// Hooks are disabled, or nothing was reported (specification: rows.md D14).
    case notAvailable = "N/A"

    /// The number that a post script receives (specification: rows.md D4).
    public var integer: Int32 {
        switch self {
        case .successful: 0
        case .failed: 1
        case .skipped: 4
        case .notAvailable: 255
        }
    }
}

/// How an attempt or a job ended: the result, whether a retry may help, and why.
public struct JobOutcome: Error, Hashable, Sendable {
    /// The result.
    public var result: JobResult
    /// Whether a retry may help; nil after a success.
    public var failureClass: FailureClass?
    /// The error and its hint in one line; empty after a plain success.
    public var message: String

    /// A success has no failure class; the default of a failure is permanent.
    public init(_ result: JobResult, failureClass: FailureClass? = nil, message: String = "") {
        self.result = result
        self.failureClass = result.isSuccess ? nil : failureClass ?? .permanent
        self.message = message
    }

    /// A failure: a wrong configuration, if that is its class.
    package init(failed failureClass: FailureClass, message: String) {
        self.init(
            failureClass == .configuration ? .wrongConfiguration : .failed, failureClass: failureClass,
            message: message)
    }

    /// The outcome of a job that ran one program.
    /// - Parameter message: by default the reading, and nothing after a plain success.
    public init(_ reading: ExitReading, message: String? = nil) {
        self.init(
            reading.result, failureClass: reading.failureClass,
            message: message ?? (reading.result == .success ? "" : "\(reading)"))
    }

    /// A success without a message.
    public static let success = JobOutcome(.success)

    /// Cancelled by an operator.
    public static let canceled = canceled(by: .operator)

    /// Cancelled on request.
    package static func canceled(by canceler: Canceler) -> JobOutcome {
        JobOutcome(.aborted, message: "canceled by \(canceler.words)")
    }

    /// Who cancelled the job, if that is its outcome.
    var canceler: Canceler? {
        guard result == .aborted else { return nil }
        return Canceler.allCases.first { message.hasPrefix(Self.canceled(by: $0).message) }
    }
}
