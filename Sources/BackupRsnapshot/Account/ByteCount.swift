/// A number of bytes.
public struct ByteCount: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The number.
    public let bytes: UInt64

    /// - Parameter bytes: any number of bytes.
    public init(_ bytes: UInt64) { self.bytes = bytes }

    /// Blocks of 1024 bytes, as the quota programs count them, rounded up so that no byte that was granted is lost.
    public var kibibytesRoundedUp: UInt64 { bytes / 1024 + (bytes % 1024 == 0 ? 0 : 1) }

    /// Units of 1024³ bytes, a begun one counted whole.
    public var gibibytesRoundedUp: UInt64 {
        let (whole, rest) = bytes.quotientAndRemainder(dividingBy: 1 << 30)
        return whole + (rest == 0 ? 0 : 1)
    }

    /// The number of bytes in digits.
    public var description: String { String(bytes) }
    /// The smaller number of bytes comes first.
    public static func < (left: Self, right: Self) -> Bool { left.bytes < right.bytes }
}
