import JobCore

/// What commands may ask of the daemon's jobs.
@MainActor protocol JobDesk: Sendable {
    /// All open jobs, in the order of their numbers.
    func live() -> [Job]
    /// What the program that the job runs just now has written so far; nil when none runs.
    func output(of id: JobID) -> CapturedOutput?
    /// Jobs of the past; nil when they could not be opened.
    var history: JobHistory? { get }
    /// Accounts whose backups are not in order.
    var health: BackupHealth { get }
    /// `[Backup Jobs] SLOTS`.
    var backupSlots: Int { get }
    /// Until when at most requests with a date wait because the machine's clock may be wrong; nil: they do not.
    var clockDoubtedUntil: Timestamp? { get }
    /// Asks for a job of `[Job NAME]`.
    /// - Throws: `CommandFailure`, with the names that there are.
    func run(_ name: String) async throws -> JobID
    /// Asks for snapshots of a level.
    /// - Parameters:
    ///   - accounts: uids; none: every account of this host that has the level.
    ///   - isForced: also where the last one is recent.
    /// - Returns: a job for each account, and how many were left out because their last one is recent.
    /// - Throws: `CommandFailure`, where an account is not to be had, has no such level, or has a recent one.
    func backup(_ level: String, accounts: [String], isForced: Bool) async throws -> (jobs: [JobID], recent: Int)
    /// Asks a job to end.
    /// - Returns: false when it is not open.
    func cancel(_ id: JobID) -> Bool
    /// Hooks, users' scripts and event handlers, as they are just now.
    func scripts() async -> [ScriptLine]
    /// Loads the event handlers anew (specification: rows.md B10).
    /// - Returns: what came of it.
    func restartHandlers() async throws -> String
}
