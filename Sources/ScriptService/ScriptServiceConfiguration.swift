package import LDAP
package import JobCore
package import Provisioning
package import SystemPackage

/// The section `[Script]`: the scripts that are the whole service.
package struct ScriptServiceConfiguration: Hashable, Sendable {
    /// nil: the operation succeeds and does nothing; the same for the other two.
    package var add: FilePath?
    package var modify: FilePath?
    package var delete: FilePath?
    /// The attributes that scripts get; no others, such as passwords.
    package var attributes: [AttributeName] = ["uid"]
    package var timeLimit = Duration.seconds(300)
    /// Between SIGTERM and SIGKILL.
    package var grace = Duration.seconds(10)
    package var exitProfileName = ExitProfile.provisioning.name
    /// The user of the scripts; nil: the daemon's own.
    package var user: String?

    /// The profile of that name. Not a setting.
    package var exitProfile = ExitProfile.provisioning
    /// The PATH of the scripts. Not a setting.
    package var programDirectories: [FilePath] = [
        "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
    ]

    package init() {}

    package func script(for operation: Operation) -> FilePath? {
        switch operation {
        case .add: add
        case .modify: modify
        case .delete: delete
        }
    }

    /// The scripts, which root runs.
    package var trusted: [TrustedPath] {
        [("ADD", add), ("MODIFY", modify), ("DELETE", delete)].compactMap { setting, path in
            path.map { TrustedPath("[Script] \(setting)", $0, .program) }
        }
    }

    /// Set if variables of two attributes would have the same name, such as those of `x-1` and of the first value of `x`.
    package var problem: ProvisioningFailure? {
        for (place, name) in attributes.enumerated() {
            for other in attributes[..<place] where EntryVariables.overlap(name, other) {
                return ProvisioningFailure(
                    .undefinedError, .configuration,
                    reason: "ATTRIBUTES names \(other) and \(name), whose variables would have the same names",
                    hint: "name one of them in ATTRIBUTES only")
            }
        }
        return nil
    }

    /// The environment of every script; nothing is inherited.
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
            meaning: "The attributes whose values the scripts get, separated by blanks."),
        Setting("TIMEOUT", \.timeLimit, .duration(from: .seconds(1)), meaning: "How long a script may run."),
        Setting(
            "GRACE", \.grace, .duration(),
            meaning: "How long it may take to end after SIGTERM before it is killed."),
        Setting(
            "EXIT_PROFILE", \.exitProfileName, .text,
            meaning: "What the scripts' exit codes mean: a built-in profile, or the NAME of an [Exit NAME]."),
        Setting("RUN_AS", \.user, orEmpty: .user, meaning: "The user that runs them. Empty: the daemon's own."),
    ]

    private static func meaning(of operation: Operation) -> String {
        "The script that carries out the request \(operation.rawValue). Empty: there is nothing to do for it."
    }
}
