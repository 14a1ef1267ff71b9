import JobCore
import Synchronization

/// The jobs that wait or run, as a schedule looks at them: what it asked for before and what has not ended is not asked for again, so that a job
/// that hangs does not pile up others behind it.
final class StandingJobs: Sendable {
    /// What makes two jobs the same to a schedule. A handler may give a job another level, and never another name.
    private struct Likeness: Hashable {
        var type: JobType
        var name: String
        var subject: JobSubject
    }

    private let standing: [Likeness: JobID]
    private let leftOut = Mutex<[(client: String, job: JobID)]>([])

    /// - Parameter live: the jobs that are open.
    init(_ live: [LiveJob]) {
        standing = Dictionary(
            live.map { (Likeness(type: $0.job.type, name: $0.job.name, subject: $0.job.subject), $0.job.id) },
            uniquingKeysWith: { first, _ in first })
    }

    /// Whether a job is to be asked for; one that is not is remembered.
    func admits(_ request: JobRequest) -> Bool {
        let likeness = Likeness(type: request.type, name: request.name, subject: request.subject)
        guard let job = standing[likeness] else { return true }
        leftOut.withLock { $0.append((request.client, job)) }
        return false
    }

    /// One line about all that were left out; nil when none was.
    var notice: String? {
        let leftOut = leftOut.withLock(\.self)
        guard !leftOut.isEmpty else { return nil }
        let named = leftOut.prefix(Self.mostNamed).map { "job \($0.job) of \($0.client)" }.joined(separator: ", ")
        let others = leftOut.count - Self.mostNamed
        return "left out this time, since the last one still waits or runs: \(named)"
            + (others > 0 ? " and \(others) others (jobs list)" : "")
    }

    private static let mostNamed = 5
}
