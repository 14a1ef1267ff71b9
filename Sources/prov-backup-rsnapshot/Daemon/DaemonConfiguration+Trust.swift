import BackupService
import Daemon
import JobCore
import ScriptService
import SystemPackage

extension DaemonConfiguration {
    /// Everything that root runs or believes, besides the settings themselves and what they name for TLS: those are looked at when they are read.
    ///
    /// `check`, the start and each reload refuse by this list; a job refuses by the same rule what has changed since.
    var trusted: [TrustedPath] {
        [
            TrustedPath("STATE_DIRECTORY", service.stateDirectory, .directory),
            TrustedPath("RUNTIME_DIRECTORY", service.runtimeDirectory, .directory),
        ] + historyDirectory + backup.trustedProgramDirectories + (script?.trusted ?? backup.trusted) + trustedPrograms
    }

    /// Where the history lies, unless that is the state directory.
    private var historyDirectory: [TrustedPath] {
        let directory = historyFile.removingLastComponent()
        return directory == service.stateDirectory ? [] : [TrustedPath("[History] FILE", directory, .directory)]
    }

    /// - Parameter note: hears of each fault.
    /// - Throws: `CommandFailure` when others could change anything in the list.
    func demandTrust(note: (String) -> Void) throws {
        let faults = trusted.compactMap { path in path.fault.map { (path.subject, $0) } }
        guard !faults.isEmpty else { return }
        for (subject, fault) in faults { note("\(subject): \(fault)") }
        let isPassing = faults.allSatisfy { $0.1.failureClass != .configuration }
        throw CommandFailure(
            "others than root and the daemon's user could change what it runs or believes",
            hint: "do what is said above; check shows it as well", status: isPassing ? .tryAgain : .wrongConfiguration)
    }

    /// Scripts, handlers and the programs of all jobs.
    private var trustedPrograms: [TrustedPath] {
        let hooks = policies.sorted { $0.key.rawValue < $1.key.rawValue }.flatMap { type, policy in
            (policy.hooks.map { [("pre script", $0.preScript), ("post script", $0.postScript)] } ?? [])
                .map { TrustedPath("\(type) \($0)", $1, .program) }
        }
        let programs = userScripts.values.sorted { $0.name < $1.name }
            .map { TrustedPath("[Job \($0.name)]", $0.path, .program) }
        let sendmail = mail.recipients.isEmpty ? [] : [TrustedPath("SENDMAIL", mail.sendmail, .program)]
        return hooks + programs + scripts.events.trusted + sendmail + [
            TrustedPath("systemd-inhibit", Inhibitor.usualProgram, .program)
        ]
    }
}
