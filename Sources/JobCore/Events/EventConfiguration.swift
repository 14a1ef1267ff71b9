public import SystemPackage

/// Where the event handlers are found and how they are run.
public struct EventConfiguration: Hashable, Sendable {
    /// What handlers can read of the daemon itself (row B4).
    public struct Daemon: Hashable, Sendable {
        /// Its name.
        public var name: String
        /// The path of its settings.
        public var configFile: String
        /// The folder of its state.
        public var workingDirectory: String
        /// `version build-date`.
        public var version: String

        /// What handlers can read of the daemon.
        public init(name: String, configFile: String, workingDirectory: String, version: String) {
            self.name = name
            self.configFile = configFile
            self.workingDirectory = workingDirectory
            self.version = version
        }
    }

    /// The folder that may hold `DirStartUp.py`. An absolute path.
    public var directory: FilePath
    /// How long a handler may take; and how long an event waits for its turn before it is given up.
    public var timeLimit: Duration
    /// How long an interpreter may take to leave when it is told to, before it is made to.
    public var grace: Duration
    /// The absolute path of `python3`, version 3.9 or later.
    public var interpreter: FilePath
    /// A folder of our own for the Python module; it is made when it is not there. An absolute path.
    public var moduleFolder: FilePath
    /// What handlers can read of the daemon.
    public var daemon: Daemon
    /// What the interpreter finds in its environment besides PATH, LANG and HOME.
    public var environment: [String: String]

    /// A configuration; nothing is looked at yet.
    public init(
        directory: FilePath, timeLimit: Duration = .seconds(30), grace: Duration = .seconds(5),
        interpreter: FilePath = "/usr/bin/python3", moduleFolder: FilePath, daemon: Daemon,
        environment: [String: String] = [:]
    ) {
        self.directory = directory
        self.timeLimit = timeLimit
        self.grace = grace
        self.interpreter = interpreter
        self.moduleFolder = moduleFolder
        self.daemon = daemon
        self.environment = environment
    }

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
