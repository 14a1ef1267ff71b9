/// What a command asks the running daemon over its control socket.
enum DaemonRequest: Codable {
    case status
    case provision(uuid: String, dn: String)
}

/// What the daemon answers.
enum DaemonReply: Codable {
    case status(DaemonStatus)
    /// The exit code of the job; nil when there was nothing to do.
    case provisioned(Int32?)
    case refused(String)
}

/// What the daemon does at this moment.
struct DaemonStatus: Codable {
    struct Running: Codable {
        let job: UInt64
        let uuid: String
        let dn: String
        let operation: String
        let attempt: Int
        let step: String?
        /// As `YYYYMMDDThhmmssZ`, like all times here.
        let since: String
    }

    struct Retrying: Codable {
        let job: UInt64
        let uuid: String
        let dn: String
        let attempt: Int
        let next: String
        let failure: String
    }

    let pid: Int32
    let version: String
    let since: String
    let isDirectoryAvailable: Bool
    let running: [Running]
    let retrying: [Retrying]
    let waiting: Int
    let nextDue: String?
    /// Since the daemon started.
    let succeeded: Int
    let failed: Int
}
