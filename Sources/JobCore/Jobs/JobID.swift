/// The number of a job: given once, never again, growing also over restarts.
public struct JobID: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let number: UInt64

    public init(_ number: UInt64) { self.number = number }

    public var description: String { String(number) }
    public static func < (left: Self, right: Self) -> Bool { left.number < right.number }
}
