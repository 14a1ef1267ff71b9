package import LDAP
package import JobCore
package import Provisioning
package import SystemPackage

/// The section `[Script]`: the scripts that are the whole service.
package struct ScriptServiceConfiguration: Hashable, Sendable {
    /// `nil`: nothing is done for this operation, and that is a success; the same for the others.
    package var add: FilePath?
    package var modify: FilePath?
    package var delete: FilePath?
    /// The attributes that the scripts are handed. No other is handed over, passwords least of all.
    package var attributes: [AttributeName] = ["uid"]
    package var timeLimit = Duration.seconds(300)
    /// Between SIGTERM and SIGKILL.
    package var grace = Duration.seconds(10)
    /// The name of the exit profile.
    package var exitProfileName = ExitProfile.provisioning.name
    /// The user as whom the scripts run; `nil`: as the daemon itself.
    package var user: String?

    /// The profile of that name. Not a setting of its own.
    package var exitProfile = ExitProfile.provisioning
    /// The PATH of the scripts. Not a setting.
    package var programDirectories: [FilePath] = [
        "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
    ]

    /// The defaults of the settings.
    package init() {}

    /// The script of an operation, and nil for none.
    package func script(for operation: Operation) -> FilePath? {
        switch operation {
        case .add: add
        case .modify: modify
        case .delete: delete
        }
    }

    /// What is run.
    package var trusted: [TrustedPath] {
        [("ADD", add), ("MODIFY", modify), ("DELETE", delete)].compactMap { setting, path in
            path.map { TrustedPath("[Script] \(setting)", $0, .program) }
        }
    }

    /// Two attributes whose variables would have the same names, such as `x-1` and the first value of `x`: what is wrong, and the hint.
    package var problem: (reason: String, hint: String)? {
        for (place, name) in attributes.enumerated() {
            for other in attributes[..<place] where EntryVariables.overlap(name, other) {
                return (
                    "ATTRIBUTES names \(other) and \(name), whose variables would have the same names",
                    "name one of them in ATTRIBUTES only"
                )
            }
        }
        return nil
    }

    /// What every script gets, besides what it is told on purpose: nothing is inherited.
    var baseEnvironment: [String: String] {
        ["PATH": programDirectories.map(\.string).joined(separator: ":"), "LANG": "C", "LC_ALL": "C"]
    }
}

extension Operation {
    /// The key of the settings that names the operation's script.
    var setting: String { rawValue.uppercased() }
}

extension ScriptServiceConfiguration: SettingsSection {
    package static let section = SectionName("Script")
    package static let meaning =
        "With TYPE = Script in [Service]: three scripts are the whole service, and [Backup] is not read."
    package static let keys: [Setting<Self>] = [
        Setting("ADD", \.add, orEmpty: .script, meaning: meaning(of: .add)),
        Setting("MODIFY", \.modify, orEmpty: .script, meaning: meaning(of: .modify)),
        Setting("DELETE", \.delete, orEmpty: .script, meaning: meaning(of: .delete)),
        Setting(
            "ATTRIBUTES", \.attributes, .attributes,
            meaning: "The attributes whose values the scripts are given, split by blanks."),
        Setting("TIMEOUT", \.timeLimit, .duration(from: .seconds(1)), meaning: "How long a script may run."),
        Setting(
            "GRACE", \.grace, .duration(),
            meaning: "How long it may take to end when it is asked to, before it is killed."),
        Setting(
            "EXIT_PROFILE", \.exitProfileName, .text,
            meaning: "What the scripts' exit codes mean: a built-in profile, or the NAME of an [Exit NAME]."),
        Setting("RUN_AS", \.user, orEmpty: .user, meaning: "The user as whom they run. Empty: the daemon's own."),
    ]

    private static func meaning(of operation: Operation) -> String {
        "The script that carries out the request \(operation.rawValue). Empty: there is nothing to do for it."
    }
}
