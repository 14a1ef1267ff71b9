/// What a script says of its own job by the reporter command (specification: rows.md L6).
public enum ReporterMessage: Codable, Hashable, Sendable {
    /// `-r`: the work has begun.
    case started
    /// `-f R`: the work has ended.
    case finished(Int32)
    /// `-p N`: percent.
    case progress(Int)
}

/// Why a report is not taken.
public enum ReporterRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    /// The token belongs to no job that runs.
    case unknownToken
    /// The process belongs to another user than the job's script.
    case wrongUser(UInt32)
    /// Not within 0…100.
    case percentOutOfRange(Int)
    /// No program exits with such a code: not within 0…255.
    case resultOutOfRange(Int32)

    /// What was wrong, and what mends it.
    public var description: String {
        switch self {
        case .unknownToken:
            "no job that runs has this token; report from within the job's own script, whose environment holds PROV_JOB_TOKEN"
        case .wrongUser(let user):
            "user \(user) does not run the job's script; report from within the script itself"
        case .percentOutOfRange(let percent):
            "a progress of \(percent) is not possible; give a percentage from 0 to 100"
        case .resultOutOfRange(let result): "a result of \(result) is not possible; give a number from 0 to 255"
        }
    }
}

extension JobResult {
    /// What a reported number says by itself (specification: rows.md L6); nil: it is a raw exit status, which the script's exit profile explains.
    static func reported(_ number: Int32) -> Self? {
        ExitProfile.lightsOutClient.meanings[number]?.result
    }
}
