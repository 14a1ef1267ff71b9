public import Logging

/// Which kinds of messages are written: `LOG_DEBUG`, `LOG_INFO`, `LOG_WARNING`, `LOG_ERR`, each a switch of its own.
public struct LogSwitches: Hashable, Sendable {
    public var debug: Bool
    public var info: Bool
    public var warning: Bool
    public var error: Bool

    public init(debug: Bool = false, info: Bool = true, warning: Bool = true, error: Bool = true) {
        self.debug = debug
        self.info = info
        self.warning = warning
        self.error = error
    }

    /// Everything, as in debug mode.
    public static let all = LogSwitches(debug: true)

    /// Whether messages of this level are written.
    public func allow(_ level: Logger.Level) -> Bool {
        switch level {
        case .trace, .debug: debug
        case .info, .notice: info
        case .warning: warning
        case .error, .critical: error
        }
    }

    /// The lowest level that is written, so that a logger does not even form what is below it.
    public var lowestLevel: Logger.Level { Logger.Level.allCases.first(where: allow) ?? .critical }
}
