import Daemon
import JobCore
import Logging

/// Reports the end of every job: a line in the log, a mail about failures, and ``BackupHealth`` for backups.
final class JobReports: Sendable {
    let health = BackupHealth()
    /// Schedules open and close runs here, so that all failures of a run are in one mail.
    let mail: Mailer
    private let logger: Logger
    private let configuration: CurrentConfiguration

    init(_ configuration: CurrentConfiguration, logger: Logger) {
        self.logger = logger
        self.configuration = configuration
        mail = Mailer({ configuration.value.mail }, logger: logger) {
            JobMail(place: configuration.place, sections: $0).message
        }
    }

    /// More deletes were requested than MAX_DELETES_PER_HOUR permits.
    func deletesWait(_ deletes: HourlyLimit.Summary) {
        let text = "deletes wait with their entries untouched: \(deletes.reason); \(HourlyLimit.Summary.hint)"
        logger.error("\(text)")
        let place = configuration.place
        mail.send(
            subject: JobMail.plain("\(place): deletes wait"),
            body: JobMail.plain("On \(place) \(text).\n\nTheir number: prov-backup-rsnapshot status\n"))
    }

    /// A job has ended.
    /// - Parameter scriptFailures: its pre and post scripts that failed (specification: rows.md D8).
    func ended(_ job: Job, scriptFailures: [String]) {
        if !scriptFailures.isEmpty {
            logger.error(
                """
                pre or post scripts of job \(job.id) (\(job.type) \(job.name), \(job.client)) failed: \
                \(scriptFailures.joined(separator: "; "))
                """, metadata: ["job": "\(job.id)"])
        }
        logger.log(level: job.logLevel, "\(job.logText)", metadata: job.metadata)
        health.ended(job)
        let alerts = configuration.value.policies[job.type]?.alerts ?? true
        mail.ended(job.id, JobMail.text(of: job, scriptFailures, alerts: alerts))
    }
}

extension CurrentConfiguration {
    /// The name of the installation in mails.
    fileprivate var place: String { JobMail.place(host: ThisHost.name, environment: value.global.environment) }
}

/// The end of a job in the log and in mails.
extension Job {
    /// Notice for success and where nothing was to be done, warning for warnings, otherwise error.
    var logLevel: Logger.Level {
        switch endResult {
        case .success: .notice
        case .aborted where isObsolete: .notice
        case .warnings: .warning
        case .failed, .aborted, .missed, .wrongConfiguration, .undefined, .unknown: .error
        }
    }

    /// `backup failed: daily: why; hint`, `provisioning done: add`, `job NAME failed: why; hint`.
    var logText: String {
        ([kind + " " + verb, variant, reason] + [message]).filter { !$0.isEmpty }.joined(separator: ": ")
    }

    var metadata: Logger.Metadata {
        var metadata: Logger.Metadata = ["job": "\(id)", "duration": "\(JobText.span(seconds ?? 0))"]
        if isOfAccount { metadata["account"] = "\(client)" }
        return metadata
    }

    /// The operator who cancelled a job needs no mail about it, unless it had failed by then.
    fileprivate var isForMail: Bool {
        !isGood && !isObsolete && !(result == .aborted && canceler == .operator)
    }

    /// The account gets no backup any more: it was deleted while the job waited, or is another daemon's by now.
    private var isObsolete: Bool {
        type == .backup && result == .aborted && canceler == nil && reported != .aborted
    }

    /// `backup daily 3724300`, `job NAME`, `purge`.
    fileprivate var title: String {
        [kind, variant, isOfAccount ? client : ""].filter { !$0.isEmpty }.joined(separator: " ")
    }

    fileprivate var verb: String {
        switch endResult {
        case .success: "done"
        case .warnings: "done with warnings"
        case .failed, .wrongConfiguration, .undefined, .unknown: "failed"
        case .aborted: "aborted"
        case .missed: "missed"
        }
    }

    private var endResult: JobResult { result ?? .unknown }

    private var isOfAccount: Bool { type == .backup || type == .provisioning }

    private var kind: String { type == .admin ? "job \(name)" : type.rawValue.lowercased() }

    private var variant: String { isOfAccount ? (level.isEmpty ? name : level) : "" }

    /// The kind of failure, if the verb does not contain it.
    private var reason: String {
        switch endResult {
        case .wrongConfiguration, .undefined, .unknown: endResult.rawValue
        case .success, .warnings, .failed, .aborted, .missed: ""
        }
    }
}

/// The mail about jobs that failed.
struct JobMail {
    /// See ``place(host:environment:)``.
    let place: String
    let sections: [MailDigest.Section]

    /// The text about one job, on several lines; nil: it is not for mail.
    /// - Parameter alerts: whether failed pre and post scripts are mailed.
    static func text(of job: Job, _ scriptFailures: [String], alerts: Bool = true) -> String? {
        let scriptFailures = alerts ? scriptFailures : []
        guard job.isForMail || !scriptFailures.isEmpty else { return nil }
        let span = JobText.span(job.seconds ?? 0)
        let messages = [job.message].filter { !$0.isEmpty } + scriptFailures
        let verb = job.verb + (scriptFailures.isEmpty ? "" : ", and its pre or post script failed")
        return
            (["job \(job.id), \(job.title): \(verb)", "  ended \(job.ended?.local ?? "?") after \(span)"]
            + messages.map { "  \($0)" }).map(OneLine.of).joined(separator: "\n")
    }

    var message: (subject: String, body: String) {
        let count = sections.map(\.count).reduce(0, +)
        let what = count == 1 ? "1 job had failures" : "\(count) jobs had failures"
        let only = count == 1 ? sections.first?.texts.first?.split(separator: "\n").first.map(String.init) : nil
        let of = sections.count == 1 ? sections[0].title.map { ": \($0)" } ?? "" : ""
        return (
            Self.plain("\(place): \(only ?? what + of)"),
            Self.plain(
                """
                \(what) on \(place).

                \(sections.map(text).joined(separator: "\n\n"))

                Details of a job: prov-backup-rsnapshot jobs show NUMBER
                Current problems: prov-backup-rsnapshot status
                """)
        )
    }

    /// The name of the installation in mails: `HOST (ENVIRONMENT)`.
    static func place(host: String, environment: String) -> String {
        environment.isEmpty || environment == host ? host : "\(host) (\(environment))"
    }

    private func text(_ section: MailDigest.Section) -> String {
        var lines = [section.title.map { "Scheduled: \($0)" } ?? "Not scheduled, or of an earlier run"] + section.texts
        let others = section.count - section.texts.count
        if others > 0 { lines.append("... and \(others) more: journalctl -u prov-backup-rsnapshot -p err") }
        return lines.joined(separator: "\n")
    }

    /// Replaces the typographic punctuation of this program's messages by ASCII.
    static func plain(_ text: String) -> String {
        let signs: [(Character, String)] = [
            ("…", "..."), ("–", "-"), ("—", "-"), ("‘", "'"), ("’", "'"), ("“", "\""), ("”", "\""),
        ]
        return signs.reduce(text) { $0.replacing(String($1.0), with: $1.1) }
    }
}
