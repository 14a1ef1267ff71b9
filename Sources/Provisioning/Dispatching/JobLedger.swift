import DirectoryModel
public import JobCore
import Logging

/// The numbers of jobs, and which attempt of which job was under way, so that a restart goes on counting.
public struct JobLedger: Sendable {
    private let source: JobIDSource?
    private let journal: AttemptJournal?

    /// A ledger on the files that the two keep.
    public init(source: JobIDSource, journal: AttemptJournal) {
        self.source = source
        self.journal = journal
    }

    private init() { (source, journal) = (nil, nil) }

    /// For a dry run, in which no job begins: it has no files.
    public static let none = JobLedger()

    func next() throws -> JobID { try source?.next() ?? JobID(0) }

    func begin(_ account: EntryUUID, job: JobID, attempt: Int) throws {
        guard let key = key(account) else { return }
        try journal?.begin(key, job: job, attempt: attempt)
    }

    func unfinished(_ account: EntryUUID) -> (JobID, Int)? {
        key(account).flatMap { journal?.unfinished($0) }.map { ($0.job, $0.number) }
    }

    /// A note that stays behind only makes a later attempt count higher, so this failure is told and not raised.
    func end(_ account: EntryUUID, logger: Logger) {
        guard let key = key(account) else { return }
        do {
            try journal?.end(key)
        } catch {
            logger.warning("the note of a finished attempt stays behind: \(error)")
        }
    }

    private func key(_ account: EntryUUID) -> AttemptJournal.Key? { AttemptJournal.Key(account.description) }
}
