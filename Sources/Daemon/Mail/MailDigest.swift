package import JobCore
import Synchronization

/// What is to be told by mail and has not been sent: all of a run together, and at most one mail in an interval.
///
/// A value that decides; ``DigestMailer`` sends. What belongs to no run is due at once, what belongs to a run when all of its jobs have
/// ended, and neither before the interval since the last mail is over. Beyond ``mostTexts`` of a section texts are only counted.
package struct MailDigest: Sendable {
    /// Jobs that were asked for together, such as by one time of a schedule.
    package struct Run: Hashable, Sendable { fileprivate let number: UInt64 }

    /// What is told of one run, or of jobs of no run.
    package struct Section: Hashable, Sendable {
        /// The run's name; nil: jobs of no run.
        package var title: String?
        /// The first texts.
        package private(set) var texts: [String] = []
        /// How many texts there were.
        package private(set) var count = 0

        /// Nothing yet.
        package init(title: String?) { self.title = title }

        fileprivate mutating func add(_ text: String) {
            count += 1
            if texts.count < MailDigest.mostTexts { texts.append(text) }
        }
    }

    private struct OpenRun {
        var section: Section
        var jobs: Set<JobID> = []
        /// No further job is asked for.
        var isWhole = false
        /// When its first text came.
        var since: Timestamp?
    }

    /// Texts of a section that are kept.
    package static let mostTexts = 200
    /// So long at most a text waits for its run to end.
    package static let longestWait = Duration.seconds(86_400)

    private let interval: Duration
    private var lastSent: Timestamp?
    private var ready: [Section] = []
    private var runs: [UInt64: OpenRun] = [:]
    private var jobs: [JobID: UInt64] = [:]
    private var lastRun: UInt64 = 0

    /// - Parameter interval: the least time between two mails.
    package init(interval: Duration) { self.interval = interval }

    // MARK: - Runs

    /// Begins a run. It ends when ``close(_:)`` was called and all its jobs have ended.
    package mutating func open(_ title: String) -> Run {
        lastRun += 1
        runs[lastRun] = OpenRun(section: Section(title: title))
        return Run(number: lastRun)
    }

    /// A job belongs to a run; to be called before it can end.
    package mutating func add(_ job: JobID, to run: Run) {
        guard runs[run.number]?.jobs.insert(job).inserted ?? false else { return }
        jobs[job] = run.number
    }

    /// No further job belongs to the run.
    package mutating func close(_ run: Run) {
        runs[run.number]?.isWhole = true
        settle(run.number)
    }

    /// A job has ended.
    /// - Parameter text: what is to be told of it; nil: nothing.
    package mutating func ended(_ job: JobID, _ text: String?, at time: Timestamp) {
        guard let run = jobs.removeValue(forKey: job) else {
            if let text { add(text) }
            return
        }
        if let text {
            runs[run]?.section.add(text)
            if runs[run]?.since == nil { runs[run]?.since = time }
        }
        runs[run]?.jobs.remove(job)
        settle(run)
    }

    private mutating func add(_ text: String) {
        if !ready.contains(where: { $0.title == nil }) { ready.append(Section(title: nil)) }
        guard let index = ready.firstIndex(where: { $0.title == nil }) else { return }
        ready[index].add(text)
    }

    private mutating func settle(_ number: UInt64) {
        guard let run = runs[number], run.isWhole, run.jobs.isEmpty else { return }
        runs[number] = nil
        if run.section.count > 0 { ready.append(run.section) }
    }

    // MARK: - Sending

    /// When the next mail is to be sent; nil: nothing is to be told yet. ``take(now:)`` is called first.
    package func due(now: Timestamp) -> Timestamp? {
        let waiting = runs.values.compactMap(\.since).min().map { $0 + Self.longestWait }
        guard let earliest = ready.isEmpty ? waiting : now else { return nil }
        return max(earliest, lastSent.map { $0 + interval } ?? now)
    }

    /// What is to be sent now; empty: nothing.
    /// - Parameter now: a clock that was set back delays a mail by the interval at most.
    package mutating func take(now: Timestamp) -> [Section] {
        lastSent = lastSent.map { min($0, now) }
        for (number, run) in runs { runs[number]?.since = run.since.map { min($0, now) } }
        guard let due = due(now: now), due <= now else { return [] }
        for (number, run) in runs where run.since.map({ $0 + Self.longestWait <= now }) ?? false {
            ready.append(run.section)
            runs[number]?.section = Section(title: run.section.title)
            runs[number]?.since = nil
        }
        lastSent = now
        return takeReady()
    }

    /// Everything that has not been sent, however long ago the last mail was: there is no later.
    package mutating func takeAll() -> [Section] {
        ready += runs.sorted { $0.key < $1.key }.map(\.value.section).filter { $0.count > 0 }
        runs = [:]
        jobs = [:]
        return takeReady()
    }

    private mutating func takeReady() -> [Section] {
        defer { ready = [] }
        return ready
    }
}

/// Sends one mail about many jobs by the rules of ``MailDigest``.
///
/// Its callers neither wait nor fail: what they say goes into a stream that ``run(compose:)`` follows. What is pending at the end is sent then.
package final class DigestMailer: Sendable {
    private let mailer: Mailer
    private let clock: any WallClock
    private let digest: Mutex<MailDigest>
    /// Each asks for a look at the digest; a time that has come, or `.distantPast`.
    private let events: AsyncStream<Timestamp>
    private let source: AsyncStream<Timestamp>.Continuation

    /// - Parameters:
    ///   - mailer: takes the mails; its own ``Mailer/run()`` sends them.
    ///   - interval: the least time between two mails.
    package init(
        _ mailer: Mailer, interval: Duration = .seconds(3_600), clock: any WallClock = SystemWallClock()
    ) {
        self.mailer = mailer
        self.clock = clock
        digest = Mutex(MailDigest(interval: interval))
        (events, source) = AsyncStream.makeStream()
    }

    // MARK: - What happens

    /// Begins a run of jobs that are asked for together; see ``MailDigest/open(_:)``.
    package func open(_ title: String) -> MailDigest.Run { digest.withLock { $0.open(title) } }

    /// A job belongs to a run; to be called before it can end.
    package func add(_ job: JobID, to run: MailDigest.Run) { digest.withLock { $0.add(job, to: run) } }

    /// No further job belongs to the run.
    package func close(_ run: MailDigest.Run) {
        digest.withLock { $0.close(run) }
        source.yield(.distantPast)
    }

    /// A job has ended.
    /// - Parameter text: what is to be told of it; nil: nothing.
    package func ended(_ job: JobID, _ text: String?) {
        digest.withLock { $0.ended(job, text, at: clock.now) }
        source.yield(.distantPast)
    }

    // MARK: - Sending

    /// No further mail but the last, with all that is pending; ``run(compose:)`` returns after it.
    package func finish() { source.finish() }

    /// Hands over each mail when it is due, until ``finish()``.
    /// - Parameter compose: makes a mail of what is to be told.
    package func run(compose: ([MailDigest.Section]) -> (subject: String, body: String)) async {
        var alarm = Alarm()
        for await reached in events {
            if reached > .distantPast { alarm.rang(reached) }
            let now = max(clock.now, reached)
            send(digest.withLock { $0.take(now: now) }, compose)
            alarm.set(to: digest.withLock { $0.due(now: now) }, by: clock) { [source] in source.yield($0) }
        }
        alarm.stop()
        send(digest.withLock { $0.takeAll() }, compose)
    }

    private func send(
        _ sections: [MailDigest.Section], _ compose: ([MailDigest.Section]) -> (subject: String, body: String)
    ) {
        guard !sections.isEmpty else { return }
        let (subject, body) = compose(sections)
        mailer.send(subject: subject, body: body)
    }
}
