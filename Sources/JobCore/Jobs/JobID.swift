/// The number of a job: given once, never again, growing also over restarts.
public struct JobID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// From 1 on.
    public let number: UInt64

    /// A number that a ``JobIDSource`` has given.
    public init(_ number: UInt64) { self.number = number }

    /// The number in decimal digits.
    public var description: String { String(number) }
    /// Older jobs have smaller numbers.
    public static func < (left: Self, right: Self) -> Bool { left.number < right.number }
}
