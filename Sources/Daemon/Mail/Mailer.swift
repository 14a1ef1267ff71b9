package import EventLoop
package import JobCore
package import Logging
import Synchronization
package import SystemPackage

/// Sends mails in the background.
///
/// `send` adds a mail to a bounded queue and returns; ``ended(_:_:)`` collects texts about jobs, which are sent together by the rules of
/// ``MailDigest``. `run` sends one mail after the other. A mail that is refused is retried for a day and then dropped, with a message in the log; no
/// other mail waits for its pauses. The log says once that mail cannot be sent, and once that it can be sent again.
package final class Mailer: Sendable {
    /// The section `[Mail]`.
    package struct Configuration: Hashable, Sendable {
        /// Empty: no mails are sent.
        package var recipients: [MailAddress] = []
        /// The name before the sender's address.
        package var senderName = ""
        /// The sendmail program of the mail transport.
        package var sendmail: FilePath = "/usr/sbin/sendmail"
        /// The waits between attempts; after the last attempt the mail is dropped.
        package var pauses: [Duration] =
            [.seconds(10), .seconds(60), .seconds(600)] + Array(repeating: .seconds(3_600), count: 24)

        package init() {}
    }

    private struct State {
        /// Texts about jobs that are in no mail yet.
        var digest = MailDigest()
        var isFailing = false
        var isFull = false
        /// No further mails come.
        var isEnding = false
        /// The queue.
        var mails: [QueuedMail] = []
    }

    private struct QueuedMail: Sendable {
        var subject: String
        var body: String
        var date: Timestamp
        var identifier: String
        /// Attempts that failed.
        var failures = 0
        /// When its next attempt is due.
        var due: ContinuousClock.Instant
    }

    /// The program is killed if it takes longer for one mail.
    private static let timeLimit = Duration.seconds(60)
    /// The wait before the last attempt of mails that are refused after ``finish()``.
    private static let lastPause = Duration.seconds(1)

    private let configuration: @Sendable () -> Configuration
    private let logger: Logger
    private let clock: any SteadyClock
    private let wallClock: any WallClock
    private let compose: @Sendable ([MailDigest.Section]) -> (subject: String, body: String)
    private let state = Mutex(State())
    private let capacity: Int
    /// An element: a mail or a text was added, or a pause has ended (`.distantPast`), or the alarm of the digest has reached a time. They end with
    /// ``finish()``.
    private let events: AsyncStream<Timestamp>
    private let source: AsyncStream<Timestamp>.Continuation

    /// - Parameters:
    ///   - configuration: the current settings. They are read for each mail, and again for each attempt to send it.
    ///   - capacity: the length of the queue; further mails are dropped.
    ///   - clock: for the pauses between attempts.
    ///   - wallClock: for the interval between mails about jobs.
    ///   - compose: makes a mail about jobs.
    package init(
        _ configuration: @escaping @Sendable () -> Configuration, capacity: Int = 100,
        clock: any SteadyClock = ContinuousClock(), wallClock: any WallClock = SystemWallClock(), logger: Logger,
        compose: @escaping @Sendable ([MailDigest.Section]) -> (subject: String, body: String)
    ) {
        self.configuration = configuration
        self.logger = logger
        self.clock = clock
        self.wallClock = wallClock
        self.capacity = capacity
        self.compose = compose
        (events, source) = AsyncStream.makeStream()
    }

    // MARK: - Texts about jobs

    /// Begins a run; see ``MailDigest/open(_:)``.
    package func open(_ title: String) -> MailDigest.Run { state.withLock { $0.digest.open(title) } }

    /// Adds a job to a run; must be called before the job can end.
    package func add(_ job: JobID, to run: MailDigest.Run) { state.withLock { $0.digest.add(job, to: run) } }

    /// All jobs of the run were added.
    package func close(_ run: MailDigest.Run) {
        state.withLock { $0.digest.close(run) }
        source.yield(.distantPast)
    }

    /// A job has ended.
    /// - Parameter text: for the mail; nil: none.
    package func ended(_ job: JobID, _ text: String?) {
        let isEmpty = state.withLock { state in
            state.digest.ended(job, text, at: wallClock.now)
            return state.digest.isEmpty
        }
        if !isEmpty { source.yield(.distantPast) }
    }

    /// Queues one mail about the jobs of all sections.
    private func queue(_ sections: [MailDigest.Section]) {
        guard !sections.isEmpty else { return }
        let (subject, body) = compose(sections)
        if !send(subject: subject, body: body) { state.withLock { $0.digest.forgetLastMail() } }
    }

    // MARK: - Sending

    /// Queues a mail to the recipients; those of each attempt count.
    /// - Returns: false if there are none, or if the queue is full.
    @discardableResult
    package func send(subject: String, body: String) -> Bool {
        guard !configuration().recipients.isEmpty else { return false }
        let identifier = (1...2).map { _ in String(UInt64.random(in: 0...(.max)), radix: 16) }.joined()
        let mail = QueuedMail(
            subject: subject, body: body, date: SystemWallClock().now, identifier: identifier, due: clock.now)
        let (isQueued, isFirst) = state.withLock { state in
            let isQueued = state.mails.count < capacity
            if isQueued { state.mails.append(mail) }
            defer { state.isFull = !isQueued }
            return (isQueued, !state.isFull)
        }
        if isQueued {
            source.yield(.distantPast)
        } else if isFirst {
            logger.error("too many mails wait to be sent; until there is room again, new ones are dropped")
        }
        return isQueued
    }

    /// No further mails and texts come; `run` returns when all are sent or dropped. A mail that waits for its next attempt has it soon.
    package func finish() {
        state.withLock { $0.isEnding = true }
        source.finish()
    }

    /// Sends mails until ``finish()``. What the transport refuses then is tried once more, and dropped. If the task is cancelled, the queued mails are
    /// dropped. The number of these mails is logged.
    package func run() async {
        var alarm = Alarm()
        var pause: Task<Void, any Error>?
        defer {
            alarm.stop()
            pause?.cancel()
        }
        for await reached in events {
            if reached > .distantPast { alarm.rang(reached) }
            let now = max(wallClock.now, reached)
            queue(state.withLock { $0.digest.take(now: now) })
            alarm.set(to: state.withLock { $0.digest.due(now: now) }, by: wallClock) { [source] in source.yield($0) }
            while !Task.isCancelled, let mail = takeDue() { await attempt(mail) }
            pause?.cancel()
            pause = nextDue().map { due in
                Task {
                    try await clock.sleep(until: due, tolerance: nil)
                    source.yield(.distantPast)
                }
            }
        }
        queue(state.withLock { $0.digest.takeAll() })
        var left = await refused(of: state.withLock(\.mails))
        if !left.isEmpty, (try? await Task.sleep(for: Self.lastPause)) != nil { left = await refused(of: left) }
        if !left.isEmpty {
            logger.warning("\(left.count == 1 ? "1 mail was" : "\(left.count) mails were") not sent before the end")
        }
    }

    /// Sends mails until `end` returns, and then the queued ones.
    /// - Parameter grace: for sending the queued mails.
    package func run(grace: Duration = .seconds(10), until end: @Sendable () async -> Void) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.run() }
            await end()
            finish()
            group.addTask {
                do {
                    try await Task.sleep(for: grace)
                } catch {
                    // All mails are sent.
                    return
                }
            }
            await group.next()
            group.cancelAll()
        }
    }

    private func nextDue() -> ContinuousClock.Instant? { state.withLock { $0.mails.map(\.due).min() } }

    /// Takes the mail whose attempt has been due for longest.
    private func takeDue() -> QueuedMail? {
        let now = clock.now
        return state.withLock { state in
            guard let next = state.mails.indices.min(by: { state.mails[$0].due < state.mails[$1].due }),
                state.mails[next].due <= now
            else { return nil }
            return state.mails.remove(at: next)
        }
    }

    /// Sends a mail. One that is refused is queued again, and dropped after its last attempt.
    private func attempt(_ mail: QueuedMail) async {
        let pauses = configuration().pauses
        var mail = mail
        do {
            if try await isSent(mail) { return }
        } catch {
            // It counts among those that were not sent before the end.
            return state.withLock { $0.mails.append(mail) }
        }
        guard mail.failures < pauses.count else {
            return logger.error("the mail \"\(OneLine.escaping(mail.subject))\" is dropped after its last attempt")
        }
        mail.due = clock.now + pauses[mail.failures]
        mail.failures += 1
        let isQueued = state.withLock { [mail] state in
            let hasRoom = state.mails.count < capacity || state.isEnding
            if hasRoom { state.mails.append(mail) }
            return hasRoom
        }
        if !isQueued {
            logger.error("the mail \"\(OneLine.escaping(mail.subject))\" is dropped: too many wait")
        }
    }

    /// - Returns: the mails that are not sent in one attempt each; all the rest if the task is cancelled.
    private func refused(of mails: [QueuedMail]) async -> [QueuedMail] {
        var refused: [QueuedMail] = []
        for mail in mails {
            if !Task.isCancelled, (try? await isSent(mail)) == true { continue }
            refused.append(mail)
        }
        return refused
    }

    /// - Returns: false if the transport refuses the mail.
    /// - Throws: `CancellationError`.
    private func isSent(_ mail: QueuedMail) async throws -> Bool {
        let configuration = configuration()
        // It is not wanted any more.
        guard !configuration.recipients.isEmpty else { return true }
        let message = MailMessage(
            recipients: configuration.recipients, senderName: configuration.senderName, subject: mail.subject,
            body: mail.body, date: mail.date, identifier: mail.identifier)
        do {
            try await Self.handOver(message.text, to: configuration.sendmail, timeLimit: Self.timeLimit)
            if setFailing(false) { logger.notice("mail can be sent again") }
            return true
        } catch let error where !(error is CancellationError) {
            if setFailing(true) { logger.error("mail cannot be sent: \(error)") }
            return false
        }
    }

    /// - Returns: whether that has changed.
    private func setFailing(_ isFailing: Bool) -> Bool {
        state.withLock { state in
            defer { state.isFailing = isFailing }
            return state.isFailing != isFailing
        }
    }
}

// MARK: - Settings

extension Mailer.Configuration: SettingsSection {
    package static let section = SectionName("Mail")
    package static let meaning = "Mails about failed jobs."
    package static let keys: [Setting<Self>] = [
        Setting(
            "SENDTO", \.recipients, .list("mail addresses split by blanks", of: .mailAddress),
            meaning: """
                The recipients of mails about failed jobs and failed pre and post scripts, split by blanks. Empty: no mails. All failures of a \
                scheduled run are in one mail, and there is at most one mail an hour.
                """),
        Setting(
            "FROMNAME", \.senderName, .text, note: "the service's name", meaning: "The sender's name in these mails."),
        Setting(
            "SENDMAIL", \.sendmail, .path,
            meaning: "The sendmail program of the mail transport; every mail transport has one."),
    ]
    package static let retired =
        ["HOST", "PORT", "USERNAME", "PASSWORD", "CA_DIR", "SSL", "AUTH_METHOD"].map {
            RetiredSetting(
                $0, isSecret: $0 == "PASSWORD",
                replacement: "SENDMAIL hands mail to the system's mail transport, which is set up there")
        } + [RetiredSetting("WANTINFOMAIL", replacement: "no mail is sent about what went well")]
}

extension SettingKind where Value == MailAddress {
    fileprivate static var mailAddress: Self {
        Self(form: "mail address") { text throws(SettingValueError) in try MailAddress(parsing: text) }
    }
}

// MARK: - The mail transport

extension Mailer {
    /// Runs `sendmail -i -t` with the mail on its standard input, and waits for its end.
    ///
    /// The script runner of jobs is not suitable: it gives no input, and ends leftover processes, which would be exim's delivery process.
    /// - Parameters:
    ///   - path: absolute.
    ///   - timeLimit: the program is killed if it takes longer.
    /// - Throws: `CommandFailure`, also if the program is missing or hangs; `CancellationError`.
    static func handOver(
        _ mail: String, to path: FilePath, timeLimit: Duration, clock: any SteadyClock = ContinuousClock()
    ) async throws {
        if let fault = await BlockingWork.run({ TrustedPath("SENDMAIL", path, .program).fault }) {
            throw CommandFailure(fault.finding, hint: fault.hint)
        }
        let outcome: ChildProcess.Outcome
        do {
            outcome = try await ChildProcess.run(
                ChildProcess.Program(path, ["-i", "-t"]), input: .bytes(Array(mail.utf8)), keeping: 300,
                isMerged: true, until: Deadline(in: timeLimit, by: clock))
        } catch let error as Errno {
            throw CommandFailure(
                "\(path) cannot be started (\(error))",
                hint: "install a mail transport, or name its sendmail program in SENDMAIL in [Mail]")
        }
        let end: String
        switch outcome.termination {
        case _ where outcome.isLate: end = "took longer than \(timeLimit) and was killed"
        case .exited(code: 0): return
        case .exited(code: let code): end = "ended with exit code \(code)"
        case .signaled(let signal): end = "was ended by signal \(signal)"
        case .unknown: end = "ended with an unknown status"
        }
        let text = String(decoding: outcome.output, as: UTF8.self)
        let message = text[..<(text.lastIndex { !$0.isWhitespace }.map { text.index(after: $0) } ?? text.startIndex)]
        throw CommandFailure(
            "\(path) \(end)\(message.isEmpty ? "" : ": \(OneLine.escaping(String(message)))")",
            hint: "see the log of the mail transport: journalctl -t sendmail -t postfix/sendmail")
    }
}
