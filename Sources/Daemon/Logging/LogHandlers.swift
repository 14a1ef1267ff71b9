import Glibc
import JobCore
package import Logging

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

/// Writes every message as one line: to the system's log, or to the terminal of a person.
///
/// Text is escaped, so that it can neither forge a line nor control the terminal. A line that cannot be written is lost.
package struct LineLogHandler: LogHandler {
    package var logLevel: Logger.Level
    package var metadata: Logger.Metadata = [:]
    package var metadataProvider: Logger.MetadataProvider?
    private let write: @Sendable (_ level: Logger.Level, _ message: String, _ metadata: String) -> Void

    private init(
        from level: Logger.Level,
        write: @escaping @Sendable (_ level: Logger.Level, _ message: String, _ metadata: String) -> Void
    ) {
        logLevel = level
        self.write = write
    }

    package subscript(metadataKey key: String) -> Logger.MetadataValue? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) { write(event.level, Self.message(of: event), items(of: event)) }

    // MARK: - The system's log

    /// Writes by syslog(3), or as lines with a priority (`<6>…`) to standard error if that is connected to the journal or if `/dev/log` does not exist.
    ///
    /// - Parameters:
    ///   - identity: the name in the log, such as `Backup-Rsnapshot`, which is kept for ever: a process makes one handler.
    ///   - environment: for `JOURNAL_STREAM`.
    package static func system(identity: String, switches: LogSwitches, environment: [String: String]) -> Self {
        let writer: LogWriter = usesSyslog(environment: environment) ? .system : .standardError
        // openlog(3) keeps the pointer, so the copy is never freed.
        if writer === LogWriter.system { openlog(strdup(identity), LOG_PID | LOG_NDELAY, LOG_DAEMON) }
        return system(switches) { writer.write($1, priority: $0) }
    }

    /// - Parameter write: gets the priority of syslog(3), 0 to 7, and one line without its end.
    static func system(
        _ switches: LogSwitches, write: @escaping @Sendable (_ priority: Int32, _ text: String) -> Void
    ) -> Self {
        Self(from: switches.lowestLevel) { level, message, items in
            if switches.allow(level) { write(priority(level), items.isEmpty ? message : "\(message) \(items)") }
        }
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

    /// - Parameter socket: of syslogd.
    static func usesSyslog(environment: [String: String], socket: String = "/dev/log") -> Bool {
        var status = stat()
        // JOURNAL_STREAM contains device and inode of the stream. Programs may inherit the variable without the stream.
        if let stream = environment["JOURNAL_STREAM"], fstat(STDERR_FILENO, &status) == 0,
            stream == "\(status.st_dev):\(status.st_ino)"
        {
            return false
        }
        return stat(socket, &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK
    }

    // MARK: - The terminal

    /// Writes to the standard error stream: time, level, message, metadata. Colours are used if it is a terminal and `NO_COLOR` is unset or empty.
    ///
    /// - Parameter environment: `NO_COLOR` and `TERM`.
    package static func terminal(environment: [String: String]) -> Self {
        let isColoured =
            (environment["NO_COLOR"] ?? "").isEmpty && environment["TERM"] != "dumb" && isatty(STDERR_FILENO) == 1
        return terminal(isColoured: isColoured, now: { Int64(time(nil)) }) {
            LogWriter.standardError.write($0)
        }
    }

    /// - Parameters:
    ///   - now: seconds since 1970.
    ///   - write: gets one line without its end.
    static func terminal(
        isColoured: Bool, now: @escaping @Sendable () -> Int64, write: @escaping @Sendable (String) -> Void
    ) -> Self {
        @Sendable func dimmed(_ text: String) -> String { isColoured ? "\u{1B}[2m\(text)\u{1B}[0m" : text }
        return Self(from: .trace) { level, message, items in
            let name = level.rawValue.uppercased()
            let padding = String(repeating: " ", count: max(0, 8 - name.count))
            let shown = [
                dimmed(clock(now())), (isColoured ? "\(colour(level))\(name)\u{1B}[0m" : name) + padding, message,
                items.isEmpty ? nil : dimmed(items),
            ]
            write(shown.compactMap(\.self).joined(separator: " "))
        }
    }

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
        let local = DayCalendar.system.localTime(at: Timestamp(secondsSince1970: seconds))
        return [local.hour, local.minute, local.second].map { $0 < 10 ? "0\($0)" : "\($0)" }.joined(separator: ":")
    }

    // MARK: - Text

    /// Metadata is cut separately, so that a long message does not hide job and account.
    private static let longestMetadata = OneLine.longest / 4
    /// Leaves room for the time and the level.
    private static let longestMessage = OneLine.longest - longestMetadata - 50

    /// Escaped and cut.
    private static func message(of event: LogEvent) -> String {
        OneLine.cut(OneLine.escaping(event.message.description), to: longestMessage)
    }

    /// `key=value` for each item of the metadata, sorted by key, separated by blanks.
    private func items(of event: LogEvent) -> String {
        var all = metadata
        if let provided = metadataProvider?.get() { all.merge(provided) { $1 } }
        if let own = event.metadata { all.merge(own) { $1 } }
        if let error = event.error { all["error"] = .string("\(error)") }
        let items = all.sorted { $0.key < $1.key }.map { "\(OneLine.escaping($0.key))=\(Self.quoted($0.value))" }
        return OneLine.cut(items.joined(separator: " "), to: Self.longestMetadata)
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
