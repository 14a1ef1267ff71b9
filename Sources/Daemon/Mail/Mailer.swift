package import JobCore
package import Logging
import Synchronization
package import SystemPackage

/// Sends mail without ever holding up whoever wants it sent.
///
/// `send` puts a mail into a queue of bounded length and returns; `run` takes one after the other from it. A mail that is not taken is tried
/// again a few times and then dropped, which is logged. That mail cannot be sent, and that it can again, is one line each.
package final class Mailer: Sendable {
    /// To whom, from whom and by what: the section `[Mail]`.
    package struct Configuration: Hashable, Sendable {
        /// Empty: nothing is sent.
        package var recipients: [MailAddress] = []
        /// The name before the sender's address.
        package var senderName = ""
        /// From whom.
        package var sender = MailAddress.root
        /// The program that takes mail.
        package var sendmail: FilePath = "/usr/sbin/sendmail"
        /// How long the program may take for one mail before it is killed.
        package var timeLimit = Duration.seconds(60)
        /// The waits before further tries; after the last the mail is dropped.
        package var pauses: [Duration] = [.seconds(10), .seconds(60), .seconds(600)]

        /// Nothing is sent.
        package init() {}
    }

    private struct State {
        var configuration: Configuration
        var isFailing = false
        var isFull = false
        var identifiers = SystemRandomNumberGenerator()
    }

    private let logger: Logger
    private let clock: any WallClock
    private let state: Mutex<State>
    private let mails: AsyncStream<MailMessage>
    private let queue: AsyncStream<MailMessage>.Continuation

    /// - Parameters:
    ///   - capacity: how many mails may wait; what comes on top of them is dropped.
    ///   - clock: for the date of mails and the pauses between tries.
    package init(
        _ configuration: Configuration, capacity: Int = 100, clock: any WallClock = SystemWallClock(), logger: Logger
    ) {
        state = Mutex(State(configuration: configuration))
        self.logger = logger
        self.clock = clock
        (mails, queue) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(capacity))
    }

    /// What is sent from now on, and what is tried again, goes by this; who gets a mail that waits already is settled.
    package func reconfigure(_ configuration: Configuration) { state.withLock { $0.configuration = configuration } }

    private var configuration: Configuration { state.withLock { $0.configuration } }

    /// Has a mail sent to the recipients; returns at once, whatever becomes of it.
    package func send(subject: String, body: String) {
        let configuration = configuration
        guard !configuration.recipients.isEmpty else { return }
        let identifier = state.withLock { state in
            [state.identifiers.next(), state.identifiers.next()].map { String($0, radix: 16) }.joined()
        }
        let mail = MailMessage(
            recipients: configuration.recipients, senderName: configuration.senderName, sender: configuration.sender,
            subject: subject, body: body, date: clock.now, identifier: identifier)
        guard case .dropped = queue.yield(mail) else { return state.withLock { $0.isFull = false } }
        let isNews = state.withLock { state in
            defer { state.isFull = true }
            return !state.isFull
        }
        if isNews { logger.error("too many mails wait to be sent; until there is room again, new ones are dropped") }
    }

    /// No further mail is accepted; `run` returns when those that wait are sent or dropped.
    package func finish() { queue.finish() }

    /// Sends what comes, until ``finish()`` or until the task is cancelled; what waits then is dropped and counted in the log.
    package func run() async {
        var left = 0
        for await mail in mails {
            if Task.isCancelled { left += 1 } else { left += await deliver(mail) ? 0 : 1 }
        }
        if left > 0, Task.isCancelled { logger.warning("\(left) mails were not sent before the end") }
    }

    /// Sends what comes until something has happened, and then what waits still.
    /// - Parameters:
    ///   - grace: how long it goes on after that at most.
    ///   - end: returns when it has happened.
    package func run(grace: Duration = .seconds(10), until end: @Sendable () async -> Void) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.run() }
            await end()
            finish()
            group.addTask {
                do {
                    try await Task.sleep(for: grace)
                } catch {
                    // All is sent: nobody waits for the grace any more.
                    return
                }
            }
            await group.next()
            group.cancelAll()
        }
    }

    /// - Returns: whether the mail is done with: sent, or dropped after its last try.
    private func deliver(_ mail: MailMessage) async -> Bool {
        var pauses = configuration.pauses[...]
        while true {
            let configuration = configuration
            let program = SendmailProgram(path: configuration.sendmail, timeLimit: configuration.timeLimit)
            do {
                try await program.send(mail.text)
                if setFailing(false) { logger.notice("mail can be sent again") }
                return true
            } catch is CancellationError {
                return false
            } catch {
                if setFailing(true) { logger.error("mail cannot be sent: \(error)") }
                guard let pause = pauses.popFirst() else {
                    logger.error("the mail \"\(OneLine.escaping(mail.subject))\" is dropped after its last try")
                    return true
                }
                do { try await clock.sleep(for: pause) } catch { return false }
            }
        }
    }

    /// - Returns: whether that is news.
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
    package static let meaning = "Who is told by mail."
    package static let keys: [Setting<Self>] = [
        Setting(
            "SENDTO", \.recipients, .list("mail addresses split by blanks", of: .mailAddress),
            meaning: """
                Who gets mail when jobs or their pre and post scripts fail: addresses split by blanks. Empty: nobody. All failures of a \
                scheduled run are in one mail, and there is at most one mail an hour.
                """),
        Setting(
            "FROMNAME", \.senderName, .text, note: "the service's name", meaning: "The sender's name in these mails."),
        Setting(
            "SENDMAIL", \.sendmail, .path,
            meaning: "The program that takes mail; every mail transport of the system has one."),
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
        Self(form: "mail address") { text throws(SettingValueError) in
            do throws(MailAddress.Invalid) {
                return try MailAddress(parsing: text)
            } catch {
                throw SettingValueError(error.reason, hint: error.hint)
            }
        }
    }
}
