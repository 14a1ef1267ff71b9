import JobCore

/// The jobs that wait or run, as a schedule looks at them: what it asked for before and what has not ended is not asked for again, so that a job
/// that hangs does not pile up others behind it.
@MainActor final class StandingJobs {
    /// What makes two jobs the same to a schedule. A handler may give a job another level, and never another name.
    private struct Likeness: Hashable {
        var type: JobType
        var name: String
        var subject: JobSubject
    }

    private let live: @MainActor () -> [Job]
    private let start: Timestamp
    private var leftOut: (named: [(client: String, job: JobID)], count: Int) = ([], 0)

    /// - Parameters:
    ///   - live: the jobs that are open.
    ///   - start: of those that were asked for since then nothing is said.
    init(_ live: @escaping @MainActor () -> [Job], since start: Timestamp = .distantFuture) {
        self.live = live
        self.start = start
    }

    /// Whether a job is to be asked for; one that is not is remembered.
    func admits(_ request: JobRequest) -> Bool {
        let likeness = Likeness(type: request.type, name: request.name, subject: request.subject)
        let standing = live().first {
            Likeness(type: $0.type, name: $0.name, subject: $0.subject) == likeness
        }
        guard let job = standing else { return true }
        guard job.created < start else { return false }
        leftOut.count += 1
        if leftOut.named.count < Self.mostNamed { leftOut.named.append((request.client, job.id)) }
        return false
    }

    /// One line about all that were left out; nil when none was.
    var notice: String? {
        guard leftOut.count > 0 else { return nil }
        let named = leftOut.named.map { "job \($0.job) of \($0.client)" }.joined(separator: ", ")
        let others = leftOut.count - leftOut.named.count
        return "left out this time, since the last one still waits or runs: \(named)"
            + (others > 0 ? " and \(others) others (jobs list)" : "")
    }

    private static let mostNamed = 5
}
