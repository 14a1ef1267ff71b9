import ArgumentParser
import Daemon
import JobCore

struct HealthCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "health", abstract: "Print one line for monitoring.",
        discussion: """
            Asks the daemon, so it needs no password for the LDAP server. Exit status as of monitoring plug-ins: 0 OK; \
            1 WARNING: backups failed or are overdue, accounts failed or have an invalid mode or state, requests have waited for another daemon for more than 15 minutes, the history of jobs cannot be written, event handlers cannot be called, or the settings could not be reloaded; 2 CRITICAL: no daemon runs or replies, the LDAP \
            server does not reply, or a shortage of the machine (disk, files, memory) or a refusal of the LDAP server delays \
            provisioning or scheduled jobs; 3 UNKNOWN: the daemon could not be asked.
            """)

    @OptionGroup var files: SettingsOptions

    func run() async throws {
        let report = await HealthReport(asking: files)
        print(report.line)
        if report.state != .ok { throw ExitCode(report.state.rawValue) }
    }
}

/// The output of a monitoring plug-in: one line, with performance data after a bar.
struct HealthReport {
    enum State: Int32 {
        case ok, warning, critical, unknown

        var name: String { "\(self)".uppercased() }
    }

    /// How long a request may wait for another daemon that has claimed it, or that holds a lock.
    static let longestWait = Duration.seconds(900)

    let state: State
    /// The problems and the next command.
    let text: String
    private let figures: [String]

    init(asking files: SettingsOptions) async {
        do {
            let control = try files.control()
            self = HealthReport(try await control.health(), noDaemon: control.noDaemon().description)
        } catch let failure as CommandFailure where failure.status == .tryAgain {
            self.init(.critical, "the daemon does not answer: \(failure)")
        } catch {
            self.init(.unknown, "\(error)")
        }
    }

    private init(_ state: State, _ text: String, _ figures: [String] = []) {
        self.state = state
        self.text = text
        self.figures = figures
    }

    /// - Parameters:
    ///   - health: nil: no daemon runs.
    ///   - noDaemon: the text for this case.
    init(_ health: DaemonHealth?, noDaemon: String) {
        guard let health else {
            self.init(.critical, noDaemon)
            return
        }
        let (status, backups) = (health.status, health.status.backups)
        var problems: [String] = []
        if let error = health.searchError ?? status.refusedCredentials {
            problems.append(error)
        } else if !status.isDirectoryAvailable {
            problems.append(
                status.ldapError.map { "the LDAP server cannot be used: \($0)" } ?? "the LDAP server does not answer")
        }
        problems += status.shortages.map {
            "provisioning of \(Self.accounts($0.accounts)) is delayed: \($0.reason)"
        }
        problems += (status.delayedJobs ?? []).map(\.text)
        let isCritical = !problems.isEmpty
        func names(_ isMeant: (BackupHealth.Problem) -> Bool) -> String {
            Self.list(backups.problems.filter(isMeant).map { "\($0.account) \($0.level)" })
        }
        if backups.failed > 0 {
            problems.append("backups failed for \(Self.accounts(backups.failed))\(names { $0.failure != nil })")
        }
        if backups.overdue > 0 {
            problems.append("backups overdue for \(Self.accounts(backups.overdue))\(names { $0.overdue != nil })")
        }
        if let failed = health.failedAccounts, failed > 0 {
            problems.append("provisioning failed for \(Self.accounts(failed))\(Self.list(health.failedUIDs))")
        }
        if let invalid = health.invalidAccounts, invalid > 0 {
            problems.append("mode or state is invalid for \(Self.accounts(invalid))\(Self.list(health.invalidUIDs))")
        }
        let held = (health.othersClaims ?? []).map { "\($0.uid) for \($0.holder)" }
        let locked = (status.lockWaits ?? []).map { "\($0.dn) for a lock" }
        if !held.isEmpty || !locked.isEmpty {
            let count = held.count + locked.count
            problems.append(
                "\(Self.accounts(count)) \(count == 1 ? "waits" : "wait") for other daemons\(Self.list(held + locked))")
        }
        if status.behindCount > 0 {
            problems.append("the LDAP server shows outdated entries of \(Self.accounts(status.behindCount))")
        }
        if let error = status.reloadError { problems.append("the settings were not reloaded: \(error)") }
        if let error = status.scriptingError { problems.append("no event handlers are called: \(error)") }
        if let error = status.historyError { problems.append("the history of jobs is not recorded: \(error)") }
        if let deletes = status.deletes {
            problems.append(
                "\(deletes.count == 1 ? "1 delete waits" : "\(deletes.count) deletes wait") (MAX_DELETES_PER_HOUR = \(deletes.limit))"
            )
        }
        var text = problems.isEmpty ? "the daemon runs, no account has a problem" : problems.joined(separator: ", ")
        let explain = (health.failedUIDs + health.invalidUIDs + (health.othersClaims ?? []).map(\.uid)).first
            .map(AccountCommand.explain.text)
        let check = status.reloadError == nil ? nil : "prov-backup-rsnapshot check"
        let others =
            status.deletes != nil || status.behindCount > 0 || !locked.isEmpty ? "prov-backup-rsnapshot status" : nil
        if let command = backups.problems.first?.command ?? explain ?? check ?? others { text += "; run: \(command)" }
        self.init(
            isCritical ? .critical : problems.isEmpty ? .ok : .warning, text,
            [
                "failed_accounts=\(health.failedAccounts.map(String.init) ?? "U");0;;0",
                "failed_backups=\(backups.failed);0;;0", "overdue_backups=\(backups.overdue);0;;0",
                "open_jobs=\(status.openJobs);;;0",
                "invalid_accounts=\(health.invalidAccounts.map(String.init) ?? "U");0;;0",
            ])
    }

    /// `BACKUP WARNING - backups failed for 1 account (3724300 daily); … | failed_backups=1;0;;0 …`
    var line: String {
        // The performance data must not be cut.
        let text = OneLine.cut(OneLine.escaping(text), to: OneLine.longest / 2).replacing("|", with: "/")
        return "BACKUP \(state.name) - \(text)"
            + (figures.isEmpty ? "" : " | " + figures.joined(separator: " "))
    }

    /// `1 account`, `2 accounts`
    static func accounts(_ count: Int) -> String { "\(count) \(count == 1 ? "account" : "accounts")" }

    private static func list(_ names: [String]) -> String {
        let most = 3
        return names.isEmpty
            ? "" : " (" + names.prefix(most).joined(separator: ", ") + (names.count > most ? ", ..." : "") + ")"
    }
}
