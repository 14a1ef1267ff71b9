/// Where a job stands, as one of Bacula's letters (specification: rows.md B9); ``title`` says each in words. A job that waits has the letter of what it waits for just now.
public enum JobStatus: Character, CaseIterable, Hashable, Sendable {
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

    /// When several meet, the heaviest counts (specification: jobs-and-scripts.md#statuses-and-results); those that it does not name weigh as
    /// the named one that is nearest in meaning.
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

    /// Whether the job has come to its end.
    public var isFinal: Bool {
        switch self {
        case .successful, .terminatedWithErrors, .nonFatalError, .fatalError, .differences, .canceled: true
        default: false
        }
    }

    /// In words, for people.
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

    /// The letter alone.
    public var letter: String { String(rawValue) }
}

extension JobResult {
    /// The letter of a job that ended so.
    public var status: JobStatus {
        switch self {
        case .success: .successful
        case .warnings: .nonFatalError
        case .failed, .missed, .undefined, .unknown: .terminatedWithErrors
        case .aborted: .canceled
        case .wrongConfiguration: .fatalError
        }
    }

    /// The heavier of two (specification: rows.md L8); of two that weigh the same, the first.
    public func heavier(_ other: Self) -> Self { other.status.weight > status.weight ? other : self }

    /// The number that a post script is given for a job that ended so (specification: rows.md D4), and the reporter's number for it (specification: rows.md L6).
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
