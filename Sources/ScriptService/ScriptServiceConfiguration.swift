public import DirectoryModel
public import JobCore
public import Provisioning
public import SystemPackage

/// The settings of `[Script]`, as values.
public struct ScriptServiceConfiguration: Hashable, Sendable {
    /// ADD; nil: nothing is done for this operation, and that is a success.
    public var add: FilePath?
    /// MODIFY.
    public var modify: FilePath?
    /// DELETE.
    public var delete: FilePath?
    /// ATTRIBUTES: what of the entry the scripts are handed. None is handed over that is not named here, passwords least of all.
    public var attributes: [AttributeName]
    /// TIMEOUT.
    public var timeLimit: Duration
    /// GRACE.
    public var grace: Duration
    /// EXIT_PROFILE.
    public var exitProfile: ExitProfile
    /// RUN_AS; nil: as the daemon itself.
    public var user: String?
    /// The PATH of the scripts.
    public var programDirectories: [FilePath]

    /// The defaults are those of the settings.
    public init(
        add: FilePath? = nil, modify: FilePath? = nil, delete: FilePath? = nil, attributes: [AttributeName] = [],
        timeLimit: Duration = .seconds(300), grace: Duration = .seconds(10), exitProfile: ExitProfile = .provisioning,
        user: String? = nil,
        programDirectories: [FilePath] = [
            "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
        ]
    ) {
        self.add = add
        self.modify = modify
        self.delete = delete
        self.attributes = attributes
        self.timeLimit = timeLimit
        self.grace = grace
        self.exitProfile = exitProfile
        self.user = user
        self.programDirectories = programDirectories
    }

    /// The script of an operation, and nil for none.
    public func script(for operation: Operation) -> FilePath? {
        switch operation {
        case .add: add
        case .modify: modify
        case .delete: delete
        }
    }

    /// What is run.
    public var trusted: [TrustedPath] {
        [("ADD", add), ("MODIFY", modify), ("DELETE", delete)].compactMap { setting, path in
            path.map { TrustedPath("[Script] \(setting)", $0, .program) }
        }
    }

    /// Two attributes whose variables would have the same names, such as `x-1` and the first value of `x`: what is wrong, and the cure.
    public var problem: (reason: String, cure: String)? {
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
