package import Logging

/// Which kinds of messages are written: `LOG_DEBUG`, `LOG_INFO`, `LOG_WARNING`, `LOG_ERR`, each a switch of its own.
package struct LogSwitches: Hashable, Sendable {
    /// `LOG_DEBUG`: every step.
    package var debug: Bool
    /// `LOG_INFO`: what was done.
    package var info: Bool
    /// `LOG_WARNING`: what is odd but stops nothing.
    package var warning: Bool
    /// `LOG_ERR`: what went wrong.
    package var error: Bool

    /// By default everything but debugging.
    package init(debug: Bool = false, info: Bool = true, warning: Bool = true, error: Bool = true) {
        self.debug = debug
        self.info = info
        self.warning = warning
        self.error = error
    }

    /// Everything, as in debug mode.
    package static let all = LogSwitches(debug: true)

    /// Whether messages of this level are written.
    package func allow(_ level: Logger.Level) -> Bool {
        switch level {
        case .trace, .debug: debug
        case .info, .notice: info
        case .warning: warning
        case .error, .critical: error
        }
    }

    /// The lowest level that is written, so that a logger does not even form what is below it.
    package var lowestLevel: Logger.Level { Logger.Level.allCases.first(where: allow) ?? .critical }
}
