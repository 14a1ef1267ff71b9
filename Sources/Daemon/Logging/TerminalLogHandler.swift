import Glibc
package import Logging
import Synchronization

/// Writes every message as a line for a reader: time, level, message, metadata.
///
/// Colours are used when the stream is a terminal and `NO_COLOR` is unset or empty. What comes from elsewhere is escaped,
/// so that it can neither forge a line nor steer the terminal. A line that cannot be written is lost; the daemon goes on.
package struct TerminalLogHandler: LogHandler {
    /// Everything, unless it is raised.
    package var logLevel: Logger.Level = .trace
    /// What stands behind every message.
    package var metadata: Logger.Metadata = [:]
    /// What the task adds.
    package var metadataProvider: Logger.MetadataProvider?
    private let write: @Sendable (String) -> Void
    private let now: @Sendable () -> Int64
    private let isColoured: Bool

    /// To the standard error stream.
    ///
    /// - Parameter environment: `NO_COLOR` and `TERM`.
    package init(environment: [String: String], metadataProvider: Logger.MetadataProvider? = nil) {
        let isColoured =
            (environment["NO_COLOR"] ?? "").isEmpty && environment["TERM"] != "dumb" && isatty(STDERR_FILENO) == 1
        self.init(
            isColoured: isColoured, metadataProvider: metadataProvider, now: { Int64(time(nil)) },
            write: { LogWriter.standardError.write(LogWriter.Line($0)) })
    }

    /// - Parameters:
    ///   - now: seconds since 1970.
    ///   - write: gets one line without its end.
    package init(
        isColoured: Bool, metadataProvider: Logger.MetadataProvider? = nil, now: @escaping @Sendable () -> Int64,
        write: @escaping @Sendable (String) -> Void
    ) {
        self.isColoured = isColoured
        self.metadataProvider = metadataProvider
        self.now = now
        self.write = write
    }

    /// One item of the metadata.
    package subscript(metadataKey key: String) -> Logger.MetadataValue? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    /// Writes one line.
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
