/// A UUID (RFC 9562). Many wait in memory, and two numbers take less of it than the text.
public struct UUID128: Hashable, Sendable {
    /// The first and the last eight bytes, in network byte order.
    private var high: UInt64 = 0, low: UInt64 = 0

    /// - Returns: nil unless there are just 16 bytes.
    public init?(bytes: ArraySlice<UInt8>) {
        guard bytes.count == 16 else { return nil }
        for byte in bytes { append(byte, bits: 8) }
    }

    /// - Parameter text: the hyphenated form (`8-4-4-4-12` hexadecimal digits), in lower or upper case.
    public init?(text: String) {
        guard text.utf8.count == Self.textLength else { return nil }
        for (place, byte) in text.utf8.enumerated() {
            if Self.isHyphen(place) {
                guard byte == UInt8(ascii: "-") else { return nil }
            } else {
                guard let digit = byte.hexDigitValue else { return nil }
                append(digit, bits: 4)
            }
        }
    }

    private mutating func append(_ value: UInt8, bits: UInt64) {
        (high, low) = (high << bits | low >> (64 - bits), low << bits | UInt64(value))
    }

    private static let textLength = 36
    private static func isHyphen(_ place: Int) -> Bool { place == 8 || place == 13 || place == 18 || place == 23 }
}

extension UUID128: CustomStringConvertible {
    /// The hyphenated lower-case form.
    public var description: String {
        String(unsafeUninitializedCapacity: Self.textLength) { text in
            var rest = self
            for place in (0..<Self.textLength).reversed() {
                if Self.isHyphen(place) {
                    text[place] = UInt8(ascii: "-")
                } else {
                    text[place] = UInt8(truncatingIfNeeded: rest.low).hexDigit
                    (rest.high, rest.low) = (rest.high >> 4, rest.low >> 4 | rest.high << 60)
                }
            }
            return Self.textLength
        }
    }
}

extension UUID128: Codable {
    /// The hyphenated form.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let uuid = Self(text: try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "not a UUID")
        }
        self = uuid
    }

    /// The hyphenated lower-case form.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

extension UInt8 {
    /// The value of a hexadecimal digit in ASCII.
    package var hexDigitValue: UInt8? {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): self - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): self - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): self - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    /// The ASCII digit of the low four bits, in lower case.
    package var hexDigit: UInt8 {
        let value = self & 0x0F
        return value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
    }
}
