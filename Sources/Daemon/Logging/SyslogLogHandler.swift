import Glibc
package import Logging
import Synchronization

/// Writes to the system's log: through syslog(3), or as lines with a priority (`<6>…`) on the standard error stream where
/// the journal listens there or where there is no `/dev/log`.
package struct SyslogLogHandler: LogHandler {
    /// The lowest level that any switch lets through; raising it silences more.
    package var logLevel: Logger.Level
    /// What stands behind every message.
    package var metadata: Logger.Metadata = [:]
    /// What the task adds.
    package var metadataProvider: Logger.MetadataProvider?
    private let switches: LogSwitches
    private let write: @Sendable (_ priority: Int32, _ text: String) -> Void

    /// - Parameters:
    ///   - identity: the name in the log, such as `Backup-Rsnapshot`. The first handler of a process settles it.
    ///   - environment: `JOURNAL_STREAM` is understood.
    package init(
        identity: String, switches: LogSwitches, environment: [String: String],
        metadataProvider: Logger.MetadataProvider? = nil
    ) {
        let destination = SyslogDestination.choose(environment: environment)
        if destination == .syslog { SyslogDestination.open(identity: identity) }
        self.init(switches: switches, metadataProvider: metadataProvider) { priority, text in
            let writer = destination == .syslog ? LogWriter.system : LogWriter.standardError
            writer.write(LogWriter.Line(text, priority: priority))
        }
    }

    /// - Parameter write: gets the priority of syslog(3), 0 to 7, and one line without its end.
    package init(
        switches: LogSwitches, metadataProvider: Logger.MetadataProvider? = nil,
        write: @escaping @Sendable (_ priority: Int32, _ text: String) -> Void
    ) {
        self.switches = switches
        self.write = write
        self.metadataProvider = metadataProvider
        logLevel = switches.lowestLevel
    }

    /// One item of the metadata.
    package subscript(metadataKey key: String) -> Logger.MetadataValue? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    /// Writes one message, if its switch is on.
    package func log(event: LogEvent) {
        guard switches.allow(event.level) else { return }
        let items = LogText.metadata(of: event, handler: metadata, provider: metadataProvider)
        let message = LogText.message(of: event)
        write(Self.priority(event.level), items.isEmpty ? message : "\(message) \(items)")
    }

    private static func priority(_ level: Logger.Level) -> Int32 {
        switch level {
        case .trace, .debug: LOG_DEBUG
        case .info: LOG_INFO
        case .notice: LOG_NOTICE
        case .warning: LOG_WARNING
        case .error: LOG_ERR
        case .critical: LOG_CRIT
        }
    }
}

/// Where the system's log takes messages.
enum SyslogDestination: Hashable, Sendable {
    case syslog
    case standardError

    /// - Parameter socket: where syslogd listens.
    static func choose(environment: [String: String], socket: String = "/dev/log") -> Self {
        if let stream = environment["JOURNAL_STREAM"], isStandardError(stream) { return .standardError }
        var status = stat()
        return stat(socket, &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK ? .syslog : .standardError
    }

    /// `JOURNAL_STREAM` names device and inode of the stream: who inherited only the variable does not write there.
    private static func isStandardError(_ stream: String) -> Bool {
        var status = stat()
        guard fstat(STDERR_FILENO, &status) == 0 else { return false }
        return stream == "\(status.st_dev):\(status.st_ino)"
    }

    private static let isOpen = Mutex(false)

    /// Opens the log under a name; only the first call does. openlog(3) keeps the pointer, so the copy is never freed.
    static func open(identity: String) {
        isOpen.withLock { isOpen in
            guard !isOpen else { return }
            isOpen = true
            openlog(strdup(identity), LOG_PID | LOG_NDELAY, LOG_DAEMON)
        }
    }
}
