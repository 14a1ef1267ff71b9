import JobCore
import ScriptService
import SystemPackage

/// A script that the settings name: what it is for, where it lies, and whether it can be run.
struct ScriptLine: Codable, Hashable, Sendable {
    enum Kind: String, Codable, Sendable {
        /// A pre or post script of a job type.
        case hook
        /// Carries out wishes, with TYPE = Script.
        case service
        /// A user's script, run as a job.
        case job
        /// Event handlers.
        case handlers
    }

    enum State: String, Codable, Sendable {
        case ok
        /// Switched off in the settings.
        case off
        /// Not there. For a hook and for handlers that is allowed.
        case missing
        /// Somebody else could change it, or it cannot be run.
        case notTrusted = "not trusted"
        /// Event handlers that the daemon could not load.
        case notLoaded = "not loaded"
    }

    var kind: Kind
    /// `Backup pre script`, or the name of a user's script.
    var name: String
    var path: String
    var state: State
    /// What is wrong, with the hint at its end.
    var problem: String?
    /// In cron notation; nil when it runs by hand alone.
    var schedule: String?
    /// When it runs next.
    var next: Timestamp?
    /// The hint alone; it is not part of the JSON.
    var hint: String?

    private enum CodingKeys: String, CodingKey {
        case kind, name, path, state, problem, schedule, next
    }
}

extension ScriptLine {
    /// - Parameter fault: why the daemon could not load them.
    mutating func handlersAreNotLoaded(_ fault: String) {
        (state, problem, hint) = (.notLoaded, "\(fault); \(Self.loadingHint)", Self.loadingHint)
    }

    static let loadingHint = "correct it, then run: prov-backup-rsnapshot scripts restart"

    /// Everything that the settings name, in the order service, hooks, jobs, handlers. It looks at the disk.
    static func all(_ configuration: DaemonConfiguration, now: Timestamp) -> [ScriptLine] {
        let service = configuration.script.map { service in
            [("ADD", service.add), ("MODIFY", service.modify), ("DELETE", service.delete)]
                .map { ScriptLine(kind: .service, name: $0, $1) }
        }
        let hooks = HooksSettings.types.flatMap { type in
            let hooks = configuration.policies[type]?.hooks
            return [("pre script", hooks?.preScript), ("post script", hooks?.postScript)].map { name, path in
                ScriptLine(kind: .hook, name: "\(type) \(name)", path)
            }
        }
        let jobs = configuration.userScripts.values.sorted { $0.name < $1.name }.map { script in
            let schedule = configuration.timetable.lines.first { $0.name == JobCommand.run(script.name).description }?
                .schedule
            var line = ScriptLine(kind: .job, name: script.name, script.path)
            line.schedule = schedule?.description
            line.next = schedule?.next(after: now)
            return line
        }
        let handlers = ScriptLine(
            kind: .handlers, name: "event handlers", configuration.scripts.events.directory.appending("DirStartUp.py"),
            as: .pythonScript)
        return (service ?? []) + hooks + jobs + [handlers]
    }

    /// - Parameter path: nil: switched off.
    private init(kind: Kind, name: String, _ path: FilePath?, as trust: FileTrust.Kind = .program) {
        self.init(kind: kind, name: name, path: path?.string ?? "", state: .off)
        guard let path else { return }
        do throws(FileTrustError) {
            try FileTrust.check(path, as: trust)
            state = .ok
        } catch {
            state = error.isAbsent && error.file == path ? .missing : .notTrusted
            // Without handlers there is just no scripting.
            if state != .missing || kind != .handlers { (problem, hint) = ("\(error)", error.hint) }
        }
    }
}
