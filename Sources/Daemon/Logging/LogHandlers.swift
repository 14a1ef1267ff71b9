import Glibc
import JobCore
package import Logging
import Synchronization

/// Which messages are logged: the settings `LOG_DEBUG`, `LOG_INFO`, `LOG_WARNING` and `LOG_ERR`, independent of each other.
package struct LogSwitches: Hashable, Sendable {
    package var debug: Bool
    package var info: Bool
    package var warning: Bool
    package var error: Bool

    /// By default everything except debug messages.
    package init(debug: Bool = false, info: Bool = true, warning: Bool = true, error: Bool = true) {
        self.debug = debug
        self.info = info
        self.warning = warning
        self.error = error
    }

    func allow(_ level: Logger.Level) -> Bool {
        switch level {
        case .trace, .debug: debug
        case .info, .notice: info
        case .warning: warning
        case .error, .critical: error
        }
    }

    /// Loggers do not format messages below this level.
    package var lowestLevel: Logger.Level { Logger.Level.allCases.first(where: allow) ?? .critical }
}

/// Writes to the system's log: by syslog(3), or as lines with a priority (`<6>…`) to standard error if that is connected to the journal or if
/// `/dev/log` does not exist.
package struct SyslogLogHandler: LogHandler {
    package var logLevel: Logger.Level
    package var metadata: Logger.Metadata = [:]
    package var metadataProvider: Logger.MetadataProvider?
    private let switches: LogSwitches
    private let write: @Sendable (_ priority: Int32, _ text: String) -> Void

    /// - Parameters:
    ///   - identity: the name in the log, such as `Backup-Rsnapshot`. The first handler of a process sets it.
    ///   - environment: for `JOURNAL_STREAM`.
    package init(identity: String, switches: LogSwitches, environment: [String: String]) {
        let destination = SyslogDestination.choose(environment: environment)
        if destination == .syslog { SyslogDestination.open(identity: identity) }
        self.init(switches: switches) { priority, text in
            let writer = destination == .syslog ? LogWriter.system : LogWriter.standardError
            writer.write(LogWriter.Line(text, priority: priority))
        }
    }

    /// - Parameter write: gets the priority of syslog(3), 0 to 7, and one line without its end.
    init(switches: LogSwitches, write: @escaping @Sendable (_ priority: Int32, _ text: String) -> Void) {
        self.switches = switches
        self.write = write
        logLevel = switches.lowestLevel
    }

    package subscript(metadataKey key: String) -> Logger.MetadataValue? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

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

/// Where messages for the system's log are sent.
enum SyslogDestination: Hashable, Sendable {
    case syslog
    case standardError

    /// - Parameter socket: of syslogd.
    static func choose(environment: [String: String], socket: String = "/dev/log") -> Self {
        if let stream = environment["JOURNAL_STREAM"], isStandardError(stream) { return .standardError }
        var status = stat()
        return stat(socket, &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK ? .syslog : .standardError
    }

    /// `JOURNAL_STREAM` contains device and inode of the stream. Programs may inherit the variable without the stream.
    private static func isStandardError(_ stream: String) -> Bool {
        var status = stat()
        guard fstat(STDERR_FILENO, &status) == 0 else { return false }
        return stream == "\(status.st_dev):\(status.st_ino)"
    }

    private static let isOpen = Mutex(false)

    /// Opens the log, on the first call only. openlog(3) keeps the pointer, so the copy is never freed.
    static func open(identity: String) {
        isOpen.withLock { isOpen in
            guard !isOpen else { return }
            isOpen = true
            openlog(strdup(identity), LOG_PID | LOG_NDELAY, LOG_DAEMON)
        }
    }
}

/// Writes every message as a line for people: time, level, message, metadata.
///
/// Colours are used if the stream is a terminal and `NO_COLOR` is unset or empty. Text is escaped, so that it can neither forge a line nor control
/// the terminal. A line that cannot be written is lost.
package struct TerminalLogHandler: LogHandler {
    package var logLevel: Logger.Level = .trace
    package var metadata: Logger.Metadata = [:]
    package var metadataProvider: Logger.MetadataProvider?
    private let write: @Sendable (String) -> Void
    private let now: @Sendable () -> Int64
    private let isColoured: Bool

    /// To the standard error stream.
    ///
    /// - Parameter environment: `NO_COLOR` and `TERM`.
    package init(environment: [String: String]) {
        let isColoured =
            (environment["NO_COLOR"] ?? "").isEmpty && environment["TERM"] != "dumb" && isatty(STDERR_FILENO) == 1
        self.init(
            isColoured: isColoured, now: { Int64(time(nil)) },
            write: { LogWriter.standardError.write(LogWriter.Line($0)) })
    }

    /// - Parameters:
    ///   - now: seconds since 1970.
    ///   - write: gets one line without its end.
    init(isColoured: Bool, now: @escaping @Sendable () -> Int64, write: @escaping @Sendable (String) -> Void) {
        self.isColoured = isColoured
        self.now = now
        self.write = write
    }

    package subscript(metadataKey key: String) -> Logger.MetadataValue? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        let level = event.level.rawValue.uppercased()
        let padding = String(repeating: " ", count: max(0, 8 - level.count))
        let items = LogText.metadata(of: event, handler: metadata, provider: metadataProvider)
        let shown = [
            dimmed(Self.clock(now())), (isColoured ? "\(Self.colour(event.level))\(level)\u{1B}[0m" : level) + padding,
            LogText.message(of: event), items.isEmpty ? nil : dimmed(items),
        ]
        write(shown.compactMap(\.self).joined(separator: " "))
    }

    private func dimmed(_ text: String) -> String { isColoured ? "\u{1B}[2m\(text)\u{1B}[0m" : text }

    private static func colour(_ level: Logger.Level) -> String {
        switch level {
        case .trace, .debug: "\u{1B}[36m"
        case .info, .notice: "\u{1B}[32m"
        case .warning: "\u{1B}[33m"
        case .error, .critical: "\u{1B}[1;31m"
        }
    }

    /// The local time of day, `HH:MM:SS`.
    private static func clock(_ seconds: Int64) -> String {
        var moment = time_t(seconds)
        var local = tm()
        localtime_r(&moment, &local)
        return [local.tm_hour, local.tm_min, local.tm_sec].map { $0 < 10 ? "0\($0)" : "\($0)" }.joined(separator: ":")
    }
}

/// Formats a log event as one line, the same for every handler.
enum LogText {
    /// Metadata is cut separately, so that a long message does not hide job and account.
    private static let longestMetadata = OneLine.longest / 4
    /// Leaves room for the time and the level.
    private static let longestMessage = OneLine.longest - longestMetadata - 50

    /// Escaped and cut.
    static func message(of event: LogEvent) -> String {
        OneLine.cut(OneLine.escaping(event.message.description), to: longestMessage)
    }

    /// `key=value` for each item, sorted by key, separated by blanks.
    static func metadata(
        of event: LogEvent, handler: Logger.Metadata, provider: Logger.MetadataProvider?
    ) -> String {
        var all = handler
        if let provided = provider?.get() { all.merge(provided) { $1 } }
        if let own = event.metadata { all.merge(own) { $1 } }
        if let error = event.error { all["error"] = .string("\(error)") }
        var text = ""
        for (key, value) in all.sorted(by: { $0.key < $1.key }) {
            if !text.isEmpty { text += " " }
            text += OneLine.escaping(key)
            text += "="
            text += quoted(value)
        }
        return OneLine.cut(text, to: longestMetadata)
    }

    /// Quoted if its end would not be visible.
    private static func quoted(_ value: Logger.MetadataValue) -> String {
        let text = OneLine.cut(OneLine.escaping(plain(value)), to: longestMetadata / 2)
        guard text.isEmpty || text.utf8.contains(where: { " \"=".utf8.contains($0) }) else { return text }
        let quoted = text.utf8.contains(UInt8(ascii: "\"")) ? text.replacing("\"", with: "\\\"") : text
        return "\"" + quoted + "\""
    }

    private static func plain(_ value: Logger.MetadataValue) -> String {
        switch value {
        case .string(let text): return text
        case .stringConvertible(let item): return item.description
        case .array(let items): return "[\(items.map(plain).joined(separator: ", "))]"
        case .dictionary(let items):
            let pairs = items.sorted { $0.key < $1.key }.map { "\($0.key): \(plain($0.value))" }
            return "[\(pairs.joined(separator: ", "))]"
        }
    }
}
