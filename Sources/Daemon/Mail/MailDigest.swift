package import JobCore

/// Collects texts for mails about jobs: the texts of a run are sent together, and at most one mail in an hour.
///
/// This value decides, ``Mailer`` sends. Texts of no run are due at once, texts of a run when all of its jobs have ended; neither before the
/// interval since the last mail has passed. Texts of a section beyond ``mostTexts`` are only counted.
package struct MailDigest: Sendable {
    /// Jobs that were submitted together, such as by a schedule.
    package struct Run: Hashable, Sendable { fileprivate let number: UInt64 }

    /// The texts of one run, or of jobs of no run.
    package struct Section: Hashable, Sendable {
        /// The run's name; nil: jobs of no run.
        package var title: String?
        /// The texts that are kept, at most ``MailDigest/mostTexts``.
        package private(set) var texts: [String] = []
        /// The number of all texts, also of those that are not kept.
        package private(set) var count = 0
        fileprivate var openJobs: Set<JobID> = []
        /// All jobs were submitted.
        fileprivate var isComplete = true
        /// When its first text was added.
        fileprivate var since: Timestamp?

        package init(title: String?) { self.title = title }

        fileprivate var hasEnded: Bool { isComplete && openJobs.isEmpty }

        fileprivate mutating func add(_ text: String, at time: Timestamp) {
            count += 1
            if texts.count < MailDigest.mostTexts { texts.append(text) }
            since = since ?? time
        }

        fileprivate mutating func removeTexts() { (texts, count, since) = ([], 0, nil) }
    }

    /// Texts that are kept of a section.
    package static let mostTexts = 200
    /// How long a text waits for its run to end.
    package static let longestWait = Duration.seconds(86_400)
    /// The minimum time between two mails.
    private static let interval = Duration.seconds(3_600)

    private var lastSent: Timestamp?
    /// The sections by the run's number; 0: jobs of no run.
    private var sections: [UInt64: Section] = [:]
    private var runs: [JobID: UInt64] = [:]
    private var lastRun: UInt64 = 0

    package init() {}

    // MARK: - Runs

    /// Begins a run. It ends when ``close(_:)`` was called and all its jobs have ended.
    package mutating func open(_ title: String) -> Run {
        lastRun += 1
        var section = Section(title: title)
        section.isComplete = false
        sections[lastRun] = section
        return Run(number: lastRun)
    }

    /// Adds a job to a run; must be called before the job can end.
    package mutating func add(_ job: JobID, to run: Run) {
        if sections[run.number]?.openJobs.insert(job).inserted ?? false { runs[job] = run.number }
    }

    /// All jobs of the run were added.
    package mutating func close(_ run: Run) {
        sections[run.number]?.isComplete = true
        settle(run.number)
    }

    /// A job has ended.
    /// - Parameter text: for the mail; nil: none.
    package mutating func ended(_ job: JobID, _ text: String?, at time: Timestamp) {
        let run = runs.removeValue(forKey: job) ?? 0
        if let text { sections[run, default: Section(title: nil)].add(text, at: time) }
        sections[run]?.openJobs.remove(job)
        settle(run)
    }

    /// No text waits, and no run is open.
    package var isEmpty: Bool { sections.isEmpty }

    private mutating func settle(_ run: UInt64) {
        if let section = sections[run], section.hasEnded, section.count == 0 { sections[run] = nil }
    }

    // MARK: - Sending

    /// When the next mail is due; nil: unknown. Call ``take(now:)`` first.
    package func due(now: Timestamp) -> Timestamp? {
        let times = sections.values.compactMap { section in
            section.since.map { section.hasEnded ? now : $0 + Self.longestWait }
        }
        guard let earliest = times.min() else { return nil }
        return max(earliest, lastSent.map { $0 + Self.interval } ?? now)
    }

    /// The sections of a mail that is due; empty: none is due.
    /// - Parameter now: if the clock was set back, a mail is delayed by at most the interval.
    package mutating func take(now: Timestamp) -> [Section] {
        lastSent = lastSent.map { min($0, now) }
        for (run, section) in sections { sections[run]?.since = section.since.map { min($0, now) } }
        guard let due = due(now: now), due <= now else { return [] }
        lastSent = now
        return take { $0.hasEnded || ($0.since.map { $0 + Self.longestWait <= now } ?? false) }
    }

    /// The last mail was not sent: the next one need not wait for the interval.
    package mutating func forgetLastMail() { lastSent = nil }

    /// All sections that were not sent, for the last mail.
    package mutating func takeAll() -> [Section] { take { _ in true } }

    private mutating func take(_ isMeant: (Section) -> Bool) -> [Section] {
        let taken = sections.filter { $0.value.count > 0 && isMeant($0.value) }.sorted { $0.key < $1.key }
        for (run, _) in taken {
            sections[run]?.removeTexts()
            settle(run)
        }
        return taken.map(\.value)
    }
}
