/// The name of an entry that no rename changes (RFC 4530): 16 bytes.
public struct EntryUUID: Hashable, Sendable {
    /// The first and the last eight bytes, in network byte order.
    public let high: UInt64, low: UInt64

    /// The UUID of two halves.
    public init(high: UInt64, low: UInt64) { (self.high, self.low) = (high, low) }

    /// - Returns: nil unless there are just 16 bytes, as in the Sync State control (RFC 4533, section 2.2).
    public init?(bytes: some Collection<UInt8>) {
        guard bytes.count == 16 else { return nil }
        func half(_ bytes: some Sequence<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
        self.init(high: half(bytes.prefix(8)), low: half(bytes.dropFirst(8)))
    }

    /// - Parameter text: the hyphenated form (`8-4-4-4-12` hexadecimal digits) of RFC 4122, as the attribute `entryUUID` has it.
    public init?(text: String) {
        guard text.utf8.count == Self.textLength else { return nil }
        var (high, low): (UInt64, UInt64) = (0, 0)
        for (place, byte) in text.utf8.enumerated() {
            if Self.isHyphen(place) {
                guard byte == UInt8(ascii: "-") else { return nil }
            } else {
                guard let digit = byte.hexDigitValue else { return nil }
                (high, low) = (high << 4 | low >> 60, low << 4 | UInt64(digit))
            }
        }
        self.init(high: high, low: low)
    }

    private static let textLength = 36
    private static func isHyphen(_ place: Int) -> Bool { place == 8 || place == 13 || place == 18 || place == 23 }
}

extension EntryUUID: CustomStringConvertible {
    /// The hyphenated lower-case form.
    public var description: String {
        var text: [UInt8] = []
        text.reserveCapacity(Self.textLength)
        for half in [high, low] {
            for shift in stride(from: 60, through: 0, by: -4) {
                if Self.isHyphen(text.count) { text.append(UInt8(ascii: "-")) }
                text.append(UInt8(truncatingIfNeeded: half >> UInt64(shift)).hexDigit)
            }
        }
        return String(decoding: text, as: UTF8.self)
    }
}
