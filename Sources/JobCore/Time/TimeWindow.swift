/// A part of every day.
public struct TimeWindow: Hashable, Sendable {
    /// The first moment at or after a time that lies within.
    public func opening(after time: WallTime) -> WallTime { time }
    /// The first moment after a time that does not lie within.
    public func closing(after time: WallTime) -> WallTime { time }
}
