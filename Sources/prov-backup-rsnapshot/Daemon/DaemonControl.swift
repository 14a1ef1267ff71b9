import Daemon
import JobCore
import Provisioning
import SystemPackage

/// Asks the daemon that runs with the same settings.
struct DaemonControl {
    private let runtimeDirectory: FilePath
    private let configFile: String
    private let globalFile: String?

    init(_ configuration: DaemonConfiguration) {
        self.init(
            runtimeDirectory: configuration.service.runtimeDirectory, configFile: configuration.configFile,
            globalFile: configuration.globalFile)
    }

    /// For what must work without the other settings.
    /// - Parameter globalFile: where the global settings are; nil: in their usual place, if anywhere.
    init(runtimeDirectory: FilePath, configFile: String, globalFile: String?) {
        self.runtimeDirectory = runtimeDirectory
        self.configFile = configFile
        self.globalFile = globalFile
    }

    enum Provisioned {
        /// The daemon carried it out; nil when there was nothing to do.
        case daemon(ProvisioningExitCode?)
        case noDaemon
    }

    /// - Returns: nil when no daemon runs here.
    func status() async throws -> DaemonStatus? {
        try await ask(.status) { if case .status(let status) = $0 { status } else { nil } }
    }

    /// - Returns: nil when no daemon runs here.
    func health() async throws -> DaemonHealth? {
        // Monitoring gives up after ten seconds.
        try await ask(.health, timeout: .seconds(8)) { if case .health(let health) = $0 { health } else { nil } }
    }

    func unfinishedAccounts() async throws -> UnfinishedAccounts {
        try await need(.unfinishedAccounts) { if case .unfinishedAccounts(let accounts) = $0 { accounts } else { nil } }
    }

    /// Has the daemon read its settings anew.
    func reload() async throws -> ReloadOutcome {
        // systemd gives up after 90 seconds.
        try await need(.reload, timeout: .seconds(80)) { if case .reloaded(let outcome) = $0 { outcome } else { nil } }
    }

    func provision(_ key: AccountKey) async throws -> Provisioned {
        let request = DaemonRequest.provision(uuid: key.uuid.description, dn: key.dn.description)
        // As long as the job takes; its own time limits hold.
        let answer: Provisioned? = try await ask(request, timeout: .seconds(24 * 3600)) {
            if case .provisioned(let code) = $0 { .daemon(code.flatMap(ProvisioningExitCode.init)) } else { nil }
        }
        return answer ?? .noDaemon
    }

    /// - Returns: the jobs that the filter includes; nil when no daemon runs here.
    func jobs(_ filter: JobFilter) async throws -> JobList? {
        try await ask(.jobs(filter)) { if case .jobs(let list) = $0 { list } else { nil } }
    }

    /// - Returns: those of the jobs that the daemon knows.
    func jobs(_ ids: [JobID]) async throws -> [Job] {
        var jobs: [Job] = []
        var rest = ids[...]
        // A request has room for so many, and for more.
        while !rest.isEmpty {
            jobs += try await need(.theseJobs(rest.prefix(1_000).map(\.number))) {
                if case .jobs(let list) = $0 { list.jobs } else { nil }
            }
            rest = rest.dropFirst(1_000)
        }
        return jobs
    }

    /// - Returns: nil when no daemon runs here; within it nil when there is no such job.
    func job(_ id: UInt64) async throws -> Job?? {
        try await ask(.job(id)) { reply -> Job?? in
            if case .job(let job) = reply { .some(job) } else { .none }
        }
    }

    /// - Returns: whether the job was open.
    func cancel(_ id: UInt64) async throws -> Bool {
        try await need(.cancel(id)) { if case .cancelled(let wasOpen) = $0 { wasOpen } else { nil } }
    }

    func run(_ name: String) async throws -> AcceptedJobs {
        try await need(.run(name)) {
            if case .asked(let accepted) = $0, !accepted.jobs.isEmpty { accepted } else { nil }
        }
    }

    func backup(_ level: String, accounts: [String], isForced: Bool) async throws -> AcceptedJobs {
        try await need(.backup(level: level, accounts: accounts, isForced: isForced)) {
            if case .asked(let accepted) = $0 { accepted } else { nil }
        }
    }

    func scripts() async throws -> [ScriptLine] {
        try await need(.scripts) { if case .scripts(let lines) = $0 { lines } else { nil } }
    }

    func restartScripts() async throws -> String {
        try await need(.restartScripts) { if case .restarted(let text) = $0 { text } else { nil } }
    }

    /// Asks what only a daemon can answer.
    /// - Parameter timeout: handlers that are loaded anew, or accounts that are looked up, may take a while.
    private func need<Value>(
        _ request: DaemonRequest, timeout: Duration = .seconds(120), _ read: (DaemonReply) -> Value?
    ) async throws -> Value {
        guard let value = try await ask(request, timeout: timeout, read) else {
            throw noDaemon()
        }
        return value
    }

    /// That there is none, and what to type.
    /// - Parameter consequence: how the sentence goes on.
    func noDaemon(_ consequence: String = "") -> CommandFailure {
        CommandFailure(
            "no daemon runs here (\(runtimeDirectory))\(consequence)",
            hint: "start it: systemctl start prov-backup-rsnapshot, or in the foreground: "
                + "prov-backup-rsnapshot run -d -c \(configFile.shellWord)"
                + (globalFile.map { " -g \($0.shellWord)" } ?? ""), status: .unavailable)
    }

    /// - Returns: nil when no daemon runs here.
    private func ask<Value>(
        _ request: DaemonRequest, timeout: Duration = .seconds(30), _ read: (DaemonReply) -> Value?
    ) async throws -> Value? {
        let socket = ControlServer.socketPath(in: runtimeDirectory)
        let reply: DaemonReply?
        do {
            reply = try await ControlClient(socket: socket, timeout: timeout).ask(request, for: DaemonReply.self).first
        } catch {
            if case .notListening = error { return nil }
            throw CommandFailure("\(error)", hint: "the daemon's log says what it does", status: error.exitStatus)
        }
        if case .refused(let refusal) = reply { throw refusal.failure }
        guard let reply, let value = read(reply) else {
            throw CommandFailure(
                "the daemon answered something else", hint: "restart it: it may be of another version")
        }
        return value
    }
}
