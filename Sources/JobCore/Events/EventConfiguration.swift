public import SystemPackage

/// Where the event handlers are found and how they are run.
public struct EventConfiguration: Hashable, Sendable {
    /// What handlers can read of the daemon itself.
    public struct Daemon: Hashable, Sendable {
        /// The name of the daemon.
        public var name = ""
        /// The path of its settings.
        public var configFile = ""
        /// The directory of its state.
        public var workingDirectory = ""
        /// `version build-date`.
        public var version = ""
    }

    /// The directory that may hold `DirStartUp.py`. An absolute path.
    public var directory: FilePath = "/etc/Provisioning/scripts"
    /// How long a handler may take; and how long an event waits for its turn before it is given up.
    public var timeLimit = Duration.seconds(30)
    /// How long an interpreter may take to leave when it is told to, before it is killed.
    public var grace = Duration.seconds(5)
    /// The absolute path of `python3`, version 3.9 or later.
    public var interpreter: FilePath = "/usr/bin/python3"
    /// A directory of our own for the Python module; it is made when it is not there. An absolute path; must be set.
    public var moduleDirectory: FilePath = ""
    /// What handlers can read of the daemon.
    public var daemon = Daemon()
    /// What the interpreter finds in its environment besides PATH, LANG and HOME.
    public var environment: [String: String] = [:]

    /// The defaults of the settings; nothing is looked at yet.
    public init() {}

    /// The handlers' script.
    var script: FilePath { directory.appending("DirStartUp.py") }

    /// What Python runs.
    public var trusted: [TrustedPath] {
        [
            TrustedPath("event handlers", script, .pythonScript),
            TrustedPath(interpreter.lastComponent?.string ?? "interpreter", interpreter, .program),
        ]
    }
}
