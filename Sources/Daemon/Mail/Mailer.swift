import EventLoop
package import JobCore
package import Logging
import Synchronization
package import SystemPackage

/// Sends mails in the background.
///
/// `send` adds a mail to a bounded queue and returns; `run` sends one mail after the other. A mail that is refused is retried a few times and then
/// dropped, with a message in the log. The log says once that mail cannot be sent, and once that it can be sent again.
package final class Mailer: Sendable {
    /// The section `[Mail]`.
    package struct Configuration: Hashable, Sendable {
        /// Empty: no mails are sent.
        package var recipients: [MailAddress] = []
        /// The name before the sender's address.
        package var senderName = ""
        package var sender = MailAddress.root
        /// The sendmail program of the mail transport.
        package var sendmail: FilePath = "/usr/sbin/sendmail"
        /// The program is killed if it takes longer for one mail.
        package var timeLimit = Duration.seconds(60)
        /// The waits between attempts; after the last attempt the mail is dropped.
        package var pauses: [Duration] = [.seconds(10), .seconds(60), .seconds(600)]

        package init() {}
    }

    private struct State {
        var isFailing = false
        var isFull = false
        var identifiers = SystemRandomNumberGenerator()
    }

    private let configuration: @Sendable () -> Configuration
    private let logger: Logger
    private let clock: any WallClock
    private let state = Mutex(State())
    private let mails: AsyncStream<MailMessage>
    private let queue: AsyncStream<MailMessage>.Continuation

    /// - Parameters:
    ///   - configuration: the current settings. They are read for each mail, and again for each attempt to send it.
    ///   - capacity: the length of the queue; further mails are dropped.
    ///   - clock: for the date of mails and the pauses between attempts.
    package init(
        _ configuration: @escaping @Sendable () -> Configuration, capacity: Int = 100,
        clock: any WallClock = SystemWallClock(), logger: Logger
    ) {
        self.configuration = configuration
        self.logger = logger
        self.clock = clock
        (mails, queue) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(capacity))
    }

    /// Queues a mail to the recipients.
    package func send(subject: String, body: String) {
        let configuration = configuration()
        guard !configuration.recipients.isEmpty else { return }
        let identifier = state.withLock { state in
            [state.identifiers.next(), state.identifiers.next()].map { String($0, radix: 16) }.joined()
        }
        let mail = MailMessage(
            recipients: configuration.recipients, senderName: configuration.senderName, sender: configuration.sender,
            subject: subject, body: body, date: clock.now, identifier: identifier)
        guard case .dropped = queue.yield(mail) else { return state.withLock { $0.isFull = false } }
        let isFirst = state.withLock { state in
            defer { state.isFull = true }
            return !state.isFull
        }
        if isFirst { logger.error("too many mails wait to be sent; until there is room again, new ones are dropped") }
    }

    /// Accepts no further mails; `run` returns when the queued mails are sent or dropped.
    package func finish() { queue.finish() }

    /// Sends mails until ``finish()``. If the task is cancelled, the queued mails are dropped and their number is logged.
    package func run() async {
        var left = 0
        for await mail in mails {
            if Task.isCancelled { left += 1 } else { left += await deliver(mail) ? 0 : 1 }
        }
        if left > 0, Task.isCancelled { logger.warning("\(left) mails were not sent before the end") }
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

    /// - Returns: whether the mail was sent, or dropped after its last attempt.
    private func deliver(_ mail: MailMessage) async -> Bool {
        var pauses = configuration().pauses[...]
        while true {
            let configuration = configuration()
            do {
                try await Self.handOver(
                    mail.text, to: configuration.sendmail, timeLimit: configuration.timeLimit)
                if setFailing(false) { logger.notice("mail can be sent again") }
                return true
            } catch is CancellationError {
                return false
            } catch {
                if setFailing(true) { logger.error("mail cannot be sent: \(error)") }
                guard let pause = pauses.popFirst() else {
                    logger.error("the mail \"\(OneLine.escaping(mail.subject))\" is dropped after its last attempt")
                    return true
                }
                do { try await clock.sleep(for: pause) } catch { return false }
            }
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
