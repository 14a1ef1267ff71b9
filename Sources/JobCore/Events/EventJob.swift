public import SystemPackage

/// Why a handler's command did not start a job.
public struct RefusedCommand: Error, Hashable, Sendable, CustomStringConvertible {
    /// What is wrong, and the hint.
    public let description: String

    /// An error text with its hint.
    public init(_ description: String) { self.description = description }
}

/// What event handlers can ask of the daemon (specification: rows.md B5).
///
/// - Important: While one of these runs, a handler waits and its time limit runs. None may wait for an event of a
///   job, because events wait for the handler.
@MainActor public protocol EventHandlerHost: Sendable {
    /// Starts a job.
    /// - Parameter command: `run job=NAME yes` or `backup LEVEL [UID…]`, as the handler wrote it.
    /// - Returns: the job's number, or why there is none, which is written to the report.
    func run(_ command: String) async -> Result<JobID, RefusedCommand>

    /// Cancels a job.
    /// - Returns: whether there was such a job.
    func cancel(_ id: JobID) async -> Bool

    /// Describes a job for an event.
    /// - Parameter volume: of the event: the first of those that can be chosen, or the one that was purged; nil: the job's own.
    func describe(_ job: Job, _ status: JobStatus, volume: String?) async -> EventJob

    /// Whether a volume of this name exists.
    func volumeExists(_ name: String) async -> Bool

    /// Adds a line, without its line feed, to the report of a job. It must neither block nor fail.
    /// - Parameter source: `handler`: a handler wrote it; `daemon`: it is about a handler.
    func write(_ line: String, to job: JobID, source: ReportLine.Source)
}

/// The configuration of the event handlers.
public struct EventConfiguration: Hashable, Sendable {
    /// Values of the daemon that handlers can read.
    public struct Daemon: Hashable, Sendable {
        /// The daemon's name.
        public var name = ""
        /// The path of its settings file.
        public var configFile = ""
        /// Its state directory.
        public var workingDirectory = ""
        /// `version build-date`.
        public var version = ""
    }

    /// The absolute path of the directory of `DirStartUp.py`.
    public var directory: FilePath = "/etc/Provisioning/scripts"
    /// The time limit of a handler, from its call.
    public var timeLimit = Duration.seconds(30)
    /// The grace period of an interpreter.
    public var grace = Duration.seconds(5)
    /// The absolute path of `python3`, version 3.9 or later.
    public var interpreter: FilePath = "/usr/bin/python3"
    /// The absolute path of a directory for the Python module, created if it does not exist. Must be set.
    public var moduleDirectory: FilePath = ""
    /// The daemon's values.
    public var daemon = Daemon()
    /// The interpreter's environment in addition to PATH, LANG and HOME.
    public var environment: [String: String] = [:]

    /// The defaults of the settings.
    public init() {}

    /// The handlers' script.
    var script: FilePath { directory.appending("DirStartUp.py") }

    /// The files that Python runs.
    package var trusted: [TrustedPath] {
        [
            TrustedPath("event handlers", script, .pythonScript),
            TrustedPath(interpreter.lastComponent?.string ?? "interpreter", interpreter, .program),
        ]
    }
}

/// The events of handlers (specification: rows.md B2); the raw values are the names of their methods.
enum EventName: String, Codable, CaseIterable, Hashable, Sendable {
    case jobStart = "JobStart"
    case jobEnd = "JobEnd"
    case exit = "Exit"
    case jobInit = "JobInit"
    case jobRun = "JobRun"
    case newVolume = "NewVolume"
    case volumePurged = "VolumePurged"
}

/// A job as handlers see it during an event (specification: rows.md B6 and B7).
public struct EventJob: Hashable, Sendable {
    /// Number, type, level, name, client and priority.
    public var job: Job
    /// Its current status (specification: rows.md B9).
    public var status: JobStatus
    /// The levels that a handler may set; they depend on the job's type.
    public var levels: [String]
    /// The pool of its volume; empty: none.
    public var pool: String
    /// The number of volumes in the pool.
    public var volumes: Int
    /// The name of this server.
    public var storage: String
    /// The name of the LDAP server.
    public var catalog: String
    /// The type of the file system that the job writes to; empty: unknown.
    public var mediaType: String
    /// How the LDAP server is reached.
    public var catalogResource: CatalogResource
    /// The volume that was purged; nil except for ``EventHandlers/volumePurged(_:)``.
    public var volumeName: String?

    /// The state of a job during an event.
    public init(
        _ job: Job, status: JobStatus, levels: [String] = [], pool: String = "", volumes: Int = 0, storage: String,
        catalog: String, mediaType: String = "", catalogResource: CatalogResource, volumeName: String? = nil
    ) {
        self.job = job
        self.status = status
        self.levels = levels
        self.pool = pool
        self.volumes = volumes
        self.storage = storage
        self.catalog = catalog
        self.mediaType = mediaType
        self.catalogResource = catalogResource
        self.volumeName = volumeName
    }

    /// The job's number.
    public var id: JobID { job.id }
}

/// How the LDAP server is reached (specification: rows.md B7, CatalogRes). Without the password: handlers read
/// `redacted`.
public struct CatalogResource: Hashable, Sendable {
    /// The base DN.
    public var base: String
    /// The server's name or address; empty for a local socket.
    public var address: String
    /// The daemon's bind DN; empty: anonymous.
    public var bindDN: String
    /// The path of the local socket; empty for a server on the network.
    public var socket: String
    /// 0 for a local socket.
    public var port: Int
    /// The kind of server, such as `OpenLDAP`.
    public var vendor: String

    /// The connection as handlers see it.
    public init(base: String, address: String, bindDN: String, socket: String, port: Int, vendor: String) {
        self.base = base
        self.address = address
        self.bindDN = bindDN
        self.socket = socket
        self.port = port
        self.vendor = vendor
    }
}

/// The decisions of an event's handlers. Errors are in the job's report already.
public struct EventEffect: Hashable, Sendable {
    /// The job's new priority, at least 1; nil: unchanged.
    public var priority: Int?
    /// The job's new level, one of ``EventJob/levels``; nil: unchanged.
    public var level: String?
    /// The chosen volume, one of those offered; nil: none.
    public var volumeName: String?

    /// No decision.
    public static let none = EventEffect()
}
