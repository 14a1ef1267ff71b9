import Synchronization

/// What a running program has written so far, to be asked for at any time.
public final class LiveOutput: Sendable {
    private let state = Mutex(CapturedOutput())

    /// Nothing yet.
    public init() {}

    /// What was kept so far.
    public var captured: CapturedOutput { state.withLock { $0 } }
}
