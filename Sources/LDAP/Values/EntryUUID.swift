/// The name of an entry that no rename changes (RFC 4530): 16 bytes.
public struct EntryUUID: Hashable, Sendable {
    /// The UUID in network byte order.
    public let bytes: InlineArray<16, UInt8>

    /// - Returns: nil unless there are just 16 bytes, as in the Sync State control (RFC 4533, section 2.2).
    public init?(bytes: some Collection<UInt8>) {
        guard bytes.count == 16 else { return nil }
        var place = bytes.startIndex
        self.bytes = InlineArray { _ in
            defer { place = bytes.index(after: place) }
            return bytes[place]
        }
    }

    /// - Parameter text: the hyphenated form (`8-4-4-4-12` hexadecimal digits) of RFC 4122, as the attribute `entryUUID` has it.
    public init?(text: String) {
        guard text.utf8.count == Self.textLength else { return nil }
        var bytes = InlineArray<16, UInt8>(repeating: 0)
        var digits = 0
        for (place, byte) in text.utf8.enumerated() {
            if Self.isHyphen(place) {
                guard byte == UInt8(ascii: "-") else { return nil }
            } else {
                guard let digit = byte.hexDigitValue else { return nil }
                bytes[digits / 2] = bytes[digits / 2] << 4 | digit
                digits += 1
            }
        }
        self.bytes = bytes
    }

    private static let textLength = 36
    private static func isHyphen(_ place: Int) -> Bool { place == 8 || place == 13 || place == 18 || place == 23 }

    /// The same bytes as two numbers, which are quicker to compare and to hash.
    private var halves: (UInt64, UInt64) {
        func half(_ start: Int) -> UInt64 { (start..<start + 8).reduce(0) { $0 << 8 | UInt64(bytes[$1]) } }
        return (half(0), half(8))
    }

    /// Whether both are the same UUID.
    public static func == (left: Self, right: Self) -> Bool { left.halves == right.halves }

    /// Hashes the bytes.
    public func hash(into hasher: inout Hasher) {
        let (first, second) = halves
        hasher.combine(first)
        hasher.combine(second)
    }
}

extension EntryUUID: CustomStringConvertible {
    /// The hyphenated lower-case form.
    public var description: String {
        var text: [UInt8] = []
        text.reserveCapacity(Self.textLength)
        for place in 0..<16 {
            if Self.isHyphen(text.count) { text.append(UInt8(ascii: "-")) }
            text.append((bytes[place] >> 4).hexDigit)
            text.append(bytes[place].hexDigit)
        }
        return String(decoding: text, as: UTF8.self)
    }
}
