/// When a new interpreter may be started after one was lost: at once, but when several in a row were lost without a single event handled
/// between them, only after a pause that doubles.
struct InterpreterPauses: Hashable, Sendable {
    /// So many in a row cost no pause.
    static let lossesWithoutPause = 2
    static let firstPause = Duration.seconds(60)
    static let longestPause = Duration.seconds(3600)

    private(set) var losses = 0
    private var resumption: ContinuousClock.Instant?

    /// An interpreter was lost.
    /// - Returns: how long it is to be waited; nil when it is not.
    mutating func lost(at now: ContinuousClock.Instant) -> Duration? {
        losses += 1
        guard losses > Self.lossesWithoutPause else { return nil }
        let doublings = min(losses - Self.lossesWithoutPause - 1, 16)
        let pause = min(Self.firstPause * (1 << doublings), Self.longestPause)
        resumption = now + pause
        return pause
    }

    /// An event was handled.
    mutating func worked() { self = Self() }

    func mayStart(at now: ContinuousClock.Instant) -> Bool { resumption.map { $0 <= now } ?? true }
}
