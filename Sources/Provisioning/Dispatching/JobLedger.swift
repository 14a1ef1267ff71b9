public import DirectoryModel
public import JobCore

/// The numbers of jobs, and which attempt of which job was under way, so that a restart goes on counting.
public struct JobLedger: Sendable {
    private let source: JobIDSource
    private let journal: AttemptJournal

    public init(source: JobIDSource, journal: AttemptJournal) {
        self.source = source
        self.journal = journal
    }

    func next() throws -> JobID { try source.next() }

    func begin(_ account: EntryUUID, job: JobID, attempt: Int) throws {
        try journal.begin(account.description, job: job, attempt: attempt)
    }

    func unfinished(_ account: EntryUUID) throws -> (JobID, Int)? {
        try journal.unfinished(account.description).map { ($0.job, $0.attempt) }
    }

    func end(_ account: EntryUUID) { journal.end(account.description) }
}
