/// What another try can be expected to bring (row R of the core's specification).
public enum FailureClass: String, Hashable, Sendable {
    /// The cause may pass by itself: try again after a while.
    case retryable
    /// The same try would fail the same way: somebody must change something first.
    case permanent
    /// The settings or the machine are wrong: every job of this kind would fail.
    case configuration
}
