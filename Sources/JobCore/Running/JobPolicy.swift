/// What holds for all jobs of a type.
public struct JobPolicy: Hashable, Sendable {
    /// Pre and post scripts; nil: off (row D1).
    public var hooks: HookSettings?
    /// When a job may begin; nil: at any time.
    public var window: TimeWindow?
    /// Whether a failed pre or post script raises an alert at the job's end (row D8).
    public var alerts: Bool
    /// Whether sleep and shutdown of the machine are held off while it runs (row L3).
    public var inhibitsSleep: Bool

    /// Levels in the order in which they begin when several wait for the same subject; others begin after them.
    public var levels: [String]

    /// No scripts, at any time.
    public init(
        hooks: HookSettings? = nil, window: TimeWindow? = nil, alerts: Bool = true, inhibitsSleep: Bool = false,
        levels: [String] = []
    ) {
        self.hooks = hooks
        self.window = window
        self.alerts = alerts
        self.inhibitsSleep = inhibitsSleep
        self.levels = levels
    }
}
