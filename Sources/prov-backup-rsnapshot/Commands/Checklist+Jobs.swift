import BackupService
import LDAP
import Glibc
import JobCore
import Provisioning
import ScriptService
import SystemPackage

/// What carries out wishes, and what jobs need: scripts and their users, handlers, mail, the history.
extension Checklist {
    /// Whether only root and the daemon's user can change what it runs or believes. To be asked first: some of it is run for other checks.
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
        ok("permissions", "nobody else can change the \(trusted.count) files and directories that are run or believed")
    }

    /// The service itself.
    mutating func service(_ configuration: DaemonConfiguration) async {
        guard let service = configuration.script else {
            guard refused.isEmpty else {
                return remark("[Backup]", "was not looked at further: for that, programs are run")
            }
            let requirements = BackupRequirements(configuration.backup)
            for requirement in await requirements.findings() { add(requirement) }
            do {
                for requirement in try await requirements.snapshotViews() { add(requirement) }
            } catch {
                remark("SNAPSHOTS", "was not looked at to the end: \(error)")
            }
            return
        }
        if let problem = service.problem { add("[Script]", problem.reason, hint: problem.hint) }
        for operation in Operation.allCases {
            let subject = "[Script] \(operation.rawValue.uppercased())"
            guard let path = service.script(for: operation) else {
                remark(subject, "empty: nothing is done for it")
                continue
            }
            guard !refused.contains(path) else { continue }
            do throws(FileTrustError) {
                try FileTrust.check(path)
                ok(subject, "\(path)")
            } catch {
                add(subject, "\(error)", hint: error.hint, untilThen: "requests fail with code 3")
            }
        }
        if let user = service.user { await runAs(user, "[Script] RUN_AS") }
    }

    /// Room on the disks, and the kernel.
    mutating func machine(_ configuration: DaemonConfiguration) {
        var places = [MachineRequirements.Place("STATE_DIRECTORY", configuration.service.stateDirectory)]
        if configuration.script == nil {
            let backup = configuration.backup
            places.append(.init("RSNAPSHOT_CONFIG_DIRECTORY", backup.configurationDirectory))
            places += (backup.places.roots + backup.places.volumes).map { .init("homes", $0) }
        }
        for requirement in MachineRequirements(places: places).findings() { add(requirement) }
    }

    mutating func daemon(_ configuration: DaemonConfiguration) async {
        do {
            if let daemon = try await DaemonControl(configuration).status() {
                ok("daemon", "runs: process \(daemon.pid) since \(daemon.since)")
            } else {
                remark("daemon", "does not run here")
            }
        } catch let failure as CommandFailure {
            add("daemon", failure.reason, hint: failure.hint, status: failure.status)
        } catch {
            add("daemon", "\(error)", hint: "the daemon's log says what it does")
        }
    }

    /// What the jobs of all types need.
    mutating func jobs(_ configuration: DaemonConfiguration) async {
        for line in ScriptLine.all(configuration, now: SystemWallClock().now) {
            // The service's own have been looked at with it.
            guard line.state != .off, line.kind != .service, !refused.contains(FilePath(line.path)) else { continue }
            if line.kind == .handlers, line.state == .ok { await handlers(line, configuration) } else { script(line) }
        }
        for script in configuration.userScripts.values.sorted(by: { $0.name < $1.name }) {
            if let user = script.user { await runAs(user, "[Job \(script.name)] RUN_AS") }
        }
        guard !configuration.mail.recipients.isEmpty else { return remark("mail", "SENDTO is empty: nobody is told") }
        program(
            configuration.mail.sendmail, "SENDMAIL",
            hint: "install a mail transport, or name its sendmail program in SENDMAIL in [Mail]")
    }

    /// Whether every level that accounts have is made by a schedule.
    /// - Parameter isBound: whether the server lets the daemon in; a wrong password is not tried a second time.
    mutating func schedules(_ configuration: DaemonConfiguration, isBound: Bool) async {
        guard configuration.script == nil else { return }
        let subject = "[Backup Jobs]"
        let unknown = "whether each level has a schedule is not known: the accounts cannot be read"
        guard isBound else { return remark(subject, unknown) }
        let schedules = configuration.backupJobs.schedules
        do {
            let connection = try await ServerList(configuration.engine.servers).connect(
                options: configuration.engine.connection)
            defer { connection.close() }
            for level in SnapshotLevel.allCases where schedules[level] == nil {
                guard let account = try await first(with: level, configuration.engine.scope, connection) else {
                    continue
                }
                let unscheduled = UnscheduledLevel(level: level, account: account)
                add(subject, unscheduled.finding, hint: unscheduled.hint)
            }
        } catch {
            return remark(subject, unknown)
        }
        for (level, schedule) in schedules.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
            ok(subject, "\(level) snapshots are made at \(schedule)")
        }
    }

    /// - Returns: what the first active account that keeps snapshots of the level is called.
    private func first(
        with level: SnapshotLevel, _ scope: WatchScope, _ connection: LDAPConnection
    ) async throws -> String? {
        let interval = level.intervalAttribute
        let request = SearchRequest(
            base: scope.base,
            filter: .and([
                scope.accounts, .present(interval), .not(.equal(interval, "0")), .equal(scope.names.active, "TRUE"),
            ]),
            attributes: ["uid"], pageSize: 1)
        for try await entry in connection.search(request) { return entry.text("uid") ?? entry.dn.description }
        return nil
    }

    /// Whether Python takes the script, of which nothing is run here, and whether the daemon could load it.
    private mutating func handlers(_ line: ScriptLine, _ configuration: DaemonConfiguration) async {
        let events = configuration.scripts.events
        guard !refused.contains(events.interpreter) else { return }
        do {
            guard access(events.interpreter.string, X_OK) == 0 else { throw Errno(rawValue: errno) }
            var fault = try await EventHandlers.syntaxFault(events)
            if fault == nil { fault = await loadingFault(configuration) }
            if let fault {
                add(line.name, fault, hint: ScriptLine.loadingHint, untilThen: "it is not loaded")
            } else {
                ok(line.name, line.path)
            }
            ok("python3", "\(events.interpreter)")
        } catch {
            add(
                "python3", "\(events.interpreter) cannot be run: \(error)",
                hint: "apt install python3: \(line.path) is not loaded without it")
        }
    }

    /// Why the daemon that runs could not load the handlers; nil: it could, or there is no daemon that says so.
    private func loadingFault(_ configuration: DaemonConfiguration) async -> String? {
        do {
            let lines = try await DaemonControl(configuration).scripts()
            return lines.first { $0.kind == .handlers && $0.state == .notLoaded }?.problem
        } catch {
            // What keeps the daemon from answering is said of the daemon.
            return nil
        }
    }

    private mutating func script(_ line: ScriptLine) {
        let subject = line.kind == .job ? "[Job \(line.name)]" : line.name
        switch (line.kind, line.state) {
        case (.handlers, .missing): remark(subject, "none: \(line.path) is not there")
        case (_, .ok), (_, .off): ok(subject, line.path)
        case (.hook, .missing):
            add(
                subject, line.problem ?? line.path,
                hint: "put it there (one that holds only #!/bin/sh does nothing), or write ENABLED = no")
        default:
            add(
                subject, line.problem ?? line.path, hint: line.hint ?? "correct the setting that names it",
                untilThen: line.kind == .handlers ? "it is not loaded" : "it is not run")
        }
    }

    private mutating func program(_ path: FilePath, _ subject: String, hint: String) {
        guard !refused.contains(path) else { return }
        guard access(path.string, X_OK) != 0 else { return ok(subject, "\(path)") }
        let reason = Errno(rawValue: errno)
        add(subject, "\(path) cannot be run: \(reason)", hint: hint)
    }

    private mutating func runAs(_ user: String, _ subject: String) async {
        do throws(ScriptUserError) {
            ok(subject, "\(user) is user \(try await ScriptUser.named(user).uid)")
        } catch {
            add(subject, "\(error)", hint: error.hint, untilThen: "nothing is run as this user")
        }
    }

    /// - Parameters:
    ///   - text: what was found; it may end with the hint, as the descriptions of errors do.
    ///   - consequence: what happens as long as it is not fixed.
    private mutating func add(_ subject: String, _ text: String, hint: String, untilThen consequence: String) {
        let end = "; \(hint)"
        let finding = text.hasSuffix(end) ? String(text.dropLast(end.count)) : text
        add(subject, finding, hint: "\(hint); until then \(consequence)")
    }

    /// Whether the history can be read, or made where there is none.
    mutating func history(_ configuration: DaemonConfiguration) {
        let file = configuration.historyFile
        let directory = file.removingLastComponent()
        guard access(file.string, F_OK) == 0 || errno != ENOENT else {
            // The daemon makes its own directory when it starts, and no other.
            guard directory == configuration.service.stateDirectory || access(directory.string, F_OK) == 0 else {
                return add("history", "\(directory) does not exist", hint: "install -d -m 0700 \(directory.shellWord)")
            }
            return remark("history", "\(file) is not there yet: the daemon makes it")
        }
        do throws(HistoryError) {
            _ = try HistoryReader(file: file)
            ok("history", "\(file)")
        } catch {
            add(
                "history", "\(error)",
                hint:
                    "a daemon that starts puts a damaged one aside and begins a new one: systemctl restart prov-backup-rsnapshot"
            )
        }
    }
}
