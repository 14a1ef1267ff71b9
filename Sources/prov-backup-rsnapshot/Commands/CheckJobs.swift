import BackupService
import Daemon
import LDAP
import Glibc
import JobCore
import Provisioning
import ScriptService
import SystemPackage

/// Checks the service and the requirements of jobs: scripts and their users, event handlers, mail, the history.
extension Checklist {
    /// Checks that only root and the daemon's user can change the files that it runs or reads. Must be first, because other checks run them.
    mutating func trust(_ configuration: DaemonConfiguration) {
        let trusted = configuration.trusted
        for path in trusted {
            guard let fault = path.fault else { continue }
            refused.insert(path.path)
            add(
                path.subject, fault.finding, hint: "\(fault.hint); until then the daemon does not start",
                status: .wrongConfiguration)
        }
        guard refused.isEmpty else { return }
        ok("permissions", "no other user can change the \(trusted.count) files and directories that are run or read")
    }

    mutating func service(_ configuration: DaemonConfiguration) async {
        guard let service = configuration.script else {
            guard refused.isEmpty else {
                return note("[Backup]", "not checked further: other users could change its programs")
            }
            for requirement in await configuration.backup.requirements() { add(requirement) }
            do {
                for requirement in try await configuration.backup.snapshotRequirements() { add(requirement) }
            } catch {
                note("SNAPSHOTS", "not checked completely: \(error)")
            }
            return
        }
        if let problem = service.problem { add("[Script]", problem.reason, hint: problem.hint) }
        for line in ScriptLine.all(configuration, now: SystemWallClock().now) where line.kind == .service {
            if !refused.contains(FilePath(line.path)) { script(line) }
        }
        if let user = service.user { await runAs(user, "[Script] RUN_AS") }
    }

    /// Checks the free disk space and the kernel.
    mutating func machine(_ configuration: DaemonConfiguration) {
        var places = [(name: "STATE_DIRECTORY", path: configuration.service.stateDirectory)]
        if configuration.script == nil {
            let backup = configuration.backup
            places.append(("RSNAPSHOT_CONFIG_DIRECTORY", backup.configurationDirectory))
            places += (backup.places.roots + backup.places.volumes).map { ("homes", $0) }
        }
        for requirement in Requirement.ofMachine(places: places) { add(requirement) }
    }

    mutating func daemon(_ configuration: DaemonConfiguration) async {
        do {
            if let daemon = try await DaemonControl(configuration).status() {
                ok("daemon", "runs: process \(daemon.pid) since \(daemon.since.local)")
            } else {
                note("daemon", "does not run here")
            }
        } catch {
            let failure = CommandFailure(inDaemon: error)
            add("daemon", failure.reason, hint: failure.hint, status: failure.status)
        }
    }

    /// Checks the requirements of all jobs.
    mutating func jobs(_ configuration: DaemonConfiguration) async {
        for line in ScriptLine.all(configuration, now: SystemWallClock().now) {
            // The scripts of the service are checked with it.
            guard line.state != .off, line.kind != .service, !refused.contains(FilePath(line.path)) else { continue }
            if line.kind == .handlers, line.state == .ok { await handlers(line, configuration) } else { script(line) }
        }
        for script in configuration.userScripts.values.sorted(by: { $0.name < $1.name }) {
            if let user = script.user { await runAs(user, "[Job \(script.name)] RUN_AS") }
        }
        guard !configuration.mail.recipients.isEmpty else { return note("mail", "SENDTO is empty: no mails are sent") }
        let sendmail = configuration.mail.sendmail
        guard !refused.contains(sendmail) else { return }
        guard access(sendmail.string, X_OK) != 0 else { return ok("SENDMAIL", "\(sendmail)") }
        let reason = Errno(rawValue: errno)
        add(
            "SENDMAIL", "\(sendmail) cannot be run: \(reason)",
            hint: "install a mail transport, or name its sendmail program in SENDMAIL in [Mail]")
    }

    /// Checks that every level of the accounts has a schedule.
    /// - Parameter isBound: whether the bind succeeded; a wrong password is not tried twice.
    mutating func schedules(_ configuration: DaemonConfiguration, isBound: Bool) async {
        guard configuration.script == nil else { return }
        let subject = "[Backup Jobs]"
        let unknown = "it is unknown whether each level has a schedule: the accounts cannot be read"
        guard isBound else { return note(subject, unknown) }
        let schedules = configuration.backupJobs.schedules
        do {
            let connection = try await configuration.connectOnce()
            defer { connection.close() }
            for level in SnapshotLevel.allCases where schedules[level] == nil {
                let interval = level.intervalAttribute
                let hasLevel = Filter.and([.present(interval), .not(.equal(interval, "0"))])
                guard let account = try await first(of: configuration.engine.scope, hasLevel, connection) else {
                    continue
                }
                let (finding, hint) = level.hasNoSchedule(account: account)
                add(subject, finding, hint: hint)
            }
        } catch {
            return note(subject, unknown)
        }
        for (level, schedule) in schedules.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
            ok(subject, "\(level) snapshots are made at \(schedule)")
        }
    }

    /// - Returns: the uid of the first active account that meets the condition.
    private func first(
        of scope: WatchScope, _ condition: Filter, _ connection: LDAPConnection
    ) async throws -> String? {
        let filter = Filter.and([scope.accounts, condition, .equal(scope.names.active, "TRUE")])
        let entry = try await connection.first(filter, below: scope.base, attributes: ["uid"])
        return entry.map { $0.text("uid") ?? $0.dn.description }
    }

    /// Checks the syntax of the event handlers without running them, and whether the running daemon has loaded them.
    private mutating func handlers(_ line: ScriptLine, _ configuration: DaemonConfiguration) async {
        let events = configuration.scripts.events
        guard !refused.contains(events.interpreter) else { return }
        func noPython(_ reason: some Error) {
            add(
                "python3", "\(events.interpreter) cannot be run: \(reason)",
                hint: "apt install python3: \(line.path) is not loaded without it")
        }
        guard access(events.interpreter.string, X_OK) == 0 else { return noPython(Errno(rawValue: errno)) }
        do throws(ScriptError) {
            if let fault = try await EventHandlers.syntaxFault(events) {
                add(line.name, fault, hint: ScriptLine.loadingHint, untilThen: "it is not loaded")
            } else {
                await loading(line, DaemonControl(configuration))
            }
            ok("python3", "\(events.interpreter)")
        } catch {
            noPython(error)
        }
    }

    /// Asks the running daemon, if there is one, whether it could load the event handlers.
    private mutating func loading(_ line: ScriptLine, _ control: DaemonControl) async {
        do {
            let loaded = try await control.scripts().first { $0.kind == .handlers && $0.state == .notLoaded }
            guard let fault = loaded?.problem else { return ok(line.name, line.path) }
            add(line.name, fault, hint: ScriptLine.loadingHint, untilThen: "it is not loaded")
        } catch {
            let failure = CommandFailure(inDaemon: error)
            guard failure != control.noDaemon() else { return ok(line.name, line.path) }
            add(
                Requirement(
                    line.name, .warning, "it is unknown whether the daemon has loaded \(line.path): \(failure.reason)",
                    hint: failure.hint))
        }
    }

    private mutating func script(_ line: ScriptLine) {
        let subject = line.kind == .service ? "[Script] \(line.name)" : line.subject
        switch (line.kind, line.state) {
        case (.service, .off): note(subject, "empty: this operation does nothing")
        case (.handlers, .missing): note(subject, "none: \(line.path) does not exist")
        case (_, .ok), (_, .off): ok(subject, line.path)
        case (.hook, .missing):
            add(
                subject, line.problem ?? line.path,
                hint: "create it (a script with only #!/bin/sh does nothing), or write ENABLED = no")
        default:
            let consequence =
                switch line.kind {
                case .service: "requests fail with code 3"
                case .hook, .job: "it is not run"
                case .handlers: "it is not loaded"
                }
            add(
                subject, line.problem ?? line.path, hint: line.hint ?? "correct its setting", untilThen: consequence)
        }
    }

    private mutating func runAs(_ user: String, _ subject: String) async {
        do throws(ScriptUserError) {
            ok(subject, "\(user) is user \(try await ScriptUser.named(user).uid)")
        } catch {
            add(subject, "\(error)", hint: error.hint, untilThen: "no script runs as this user")
        }
    }

    /// - Parameters:
    ///   - text: the finding; it may end with the hint, as descriptions of errors do.
    ///   - consequence: until it is fixed.
    private mutating func add(_ subject: String, _ text: String, hint: String, untilThen consequence: String) {
        let end = "; \(hint)"
        let finding = text.hasSuffix(end) ? String(text.dropLast(end.count)) : text
        add(subject, finding, hint: "\(hint); until then \(consequence)")
    }

    /// Checks that the history can be read or created.
    mutating func history(_ configuration: DaemonConfiguration) {
        let file = configuration.historyFile
        let directory = file.removingLastComponent()
        guard access(file.string, F_OK) == 0 || errno != ENOENT else {
            // The daemon creates only its own directory.
            guard directory == configuration.service.stateDirectory || access(directory.string, F_OK) == 0 else {
                return add("history", "\(directory) does not exist", hint: "install -d -m 0700 \(directory.shellWord)")
            }
            return note("history", "\(file) does not exist yet: the daemon creates it")
        }
        do throws(HistoryError) {
            _ = try HistoryReader(file: file)
            ok("history", "\(file)")
        } catch {
            guard !error.isPassing else { return note("history", "\(error)") }
            add(
                "history", "\(error)",
                hint:
                    "at its start the daemon renames a damaged history and creates a new one: systemctl restart prov-backup-rsnapshot"
            )
        }
    }
}
