import BackupRsnapshot
import Glibc
import JobCore
import ScriptService
import SystemPackage

extension DaemonConfiguration {
    /// Something that is needed: what it is about, what was found, and what mends it; nil where nothing is wrong.
    typealias Need = (subject: String, finding: String, cure: String?)

    /// What the settings need of this machine, met or not. Changes nothing.
    func requirements(now: WallTime) async -> [Need] {
        var found: [Need] = []
        if let script {
            if let problem = script.problem { found.append(("[Script]", problem.reason, problem.cure)) }
            if let user = script.user { found.append(await Self.runAs(user, "[Script] RUN_AS")) }
        } else {
            found = await BackupRequirements(backup).findings().map { ($0.subject, $0.finding, $0.cure) }
        }
        let lines = await Task.detached { [self] in ScriptLine.all(self, now: now) }.value
        found += lines.filter { $0.state != .off }.flatMap(needs)
        for job in jobs.scripts.values.sorted(by: { $0.name < $1.name }) {
            if let user = job.user { found.append(await Self.runAs(user, "[Job \(job.name)] RUN_AS")) }
        }
        if !jobs.mail.recipients.isEmpty {
            found.append(
                Self.program(
                    jobs.mail.sendmail, "SENDMAIL",
                    cure: "install a mail transport, or name its sendmail program in SENDMAIL in [Mail]"))
        }
        return found
    }

    /// Whether the history can be read, or made where there is none.
    func historyRequirement() -> Need {
        let file = FilePath(jobs.history.file)
        let folder = file.removingLastComponent()
        guard access(file.string, F_OK) == 0 || errno != ENOENT else {
            // The daemon makes its own folder when it starts, and no other.
            return folder == stateDirectory || access(folder.string, F_OK) == 0
                ? ("history", "\(file) is not there yet: the daemon makes it", nil)
                : ("history", "\(folder) does not exist", "install -d -m 0700 \(folder)")
        }
        do throws(HistoryError) {
            _ = try HistoryReader(file: file)
            return ("history", "\(file)", nil)
        } catch {
            return (
                "history", "\(error)",
                "a daemon that starts puts a damaged one aside and begins a new one: systemctl restart prov-backup-rsnapshot"
            )
        }
    }

    private func needs(_ line: ScriptLine) -> [Need] {
        let subject =
            switch line.kind {
            case .service: "[Script] \(line.name)"
            case .job: "[Job \(line.name)]"
            case .hook, .handlers: line.name
            }
        guard line.state != .ok else {
            let python = Self.program(
                jobs.events.interpreter, "python3", cure: "apt install python3: \(line.path) is not loaded without it")
            return [(subject, line.path, nil)] + (line.kind == .handlers ? [python] : [])
        }
        let problem = line.problem ?? line.path
        return switch (line.kind, line.state) {
        case (.handlers, .missing): [(subject, "none: \(line.path) is not there", nil)]
        case (.hook, .missing):
            [(subject, problem, "put it there (one that holds only #!/bin/sh does nothing), or write ENABLED = no")]
        default: [(subject, line.state.rawValue, problem)]
        }
    }

    private static func program(_ path: FilePath, _ subject: String, cure: String) -> Need {
        guard access(path.string, X_OK) != 0 else { return (subject, "\(path)", nil) }
        let reason = Errno(rawValue: errno)
        return (subject, "\(path) cannot be run: \(reason)", cure)
    }

    private static func runAs(_ user: String, _ subject: String) async -> Need {
        do throws(ScriptUserError) {
            return (subject, "\(user) is user \(try await ScriptUser.named(user).uid)", nil)
        } catch {
            return (subject, "no script can run as it", "\(error)")
        }
    }
}
