public import JobCore
import Synchronization

/// Sends one mail about many jobs by the rules of ``MailDigest``.
///
/// Its callers neither wait nor fail: what they say goes into a stream that ``run(compose:)`` follows. What is pending at the end is sent then.
public final class DigestMailer: Sendable {
    private let mailer: Mailer
    private let clock: any WallClock
    private let digest: Mutex<MailDigest>
    /// Each asks for a look at the digest; a time that has come, or `.distantPast`.
    private let events: AsyncStream<WallTime>
    private let source: AsyncStream<WallTime>.Continuation

    /// - Parameters:
    ///   - mailer: takes the mails; its own ``Mailer/run()`` sends them.
    ///   - interval: the least time between two mails.
    public init(
        _ mailer: Mailer, interval: Duration = .seconds(3_600), clock: any WallClock = SystemWallClock()
    ) {
        self.mailer = mailer
        self.clock = clock
        digest = Mutex(MailDigest(interval: interval))
        (events, source) = AsyncStream.makeStream()
    }

    // MARK: - What happens

    /// Begins a run of jobs that are asked for together; see ``MailDigest/open(_:)``.
    public func open(_ title: String) -> MailDigest.Run { digest.withLock { $0.open(title) } }

    /// A job belongs to a run; to be called before it can end.
    public func add(_ job: JobID, to run: MailDigest.Run) { digest.withLock { $0.add(job, to: run) } }

    /// No further job belongs to the run.
    public func close(_ run: MailDigest.Run) {
        digest.withLock { $0.close(run) }
        source.yield(.distantPast)
    }

    /// A job has ended.
    /// - Parameter text: what is to be told of it; nil: nothing.
    public func ended(_ job: JobID, _ text: String?) {
        digest.withLock { $0.ended(job, text, at: clock.now) }
        source.yield(.distantPast)
    }

    // MARK: - Sending

    /// No further mail but the last, with all that is pending; ``run(compose:)`` returns after it.
    public func finish() { source.finish() }

    /// Hands over each mail when it is due, until ``finish()``.
    /// - Parameter compose: makes a mail of what is to be told.
    public func run(compose: ([MailDigest.Section]) -> (subject: String, body: String)) async {
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
