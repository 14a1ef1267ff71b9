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
    public init?(text: some StringProtocol) {
        let groups = text.utf8.split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
        guard groups.map(\.count) == [8, 4, 4, 4, 12] else { return nil }
        let digits = groups.joined().map { byte -> UInt8? in
            Character(UnicodeScalar(byte)).hexDigitValue.map(UInt8.init)
        }
        let pairs = stride(from: 0, to: 32, by: 2).compactMap { place -> UInt8? in
            guard let high = digits[place], let low = digits[place + 1] else { return nil }
            return high << 4 | low
        }
        self.init(bytes: pairs)
    }

    /// Whether both are the same UUID.
    public static func == (left: Self, right: Self) -> Bool {
        (0..<16).allSatisfy { left.bytes[$0] == right.bytes[$0] }
    }

    /// Hashes the bytes.
    public func hash(into hasher: inout Hasher) {
        for place in 0..<16 { hasher.combine(bytes[place]) }
    }
}

extension EntryUUID: CustomStringConvertible {
    /// The hyphenated lower-case form.
    public var description: String {
        var text = ""
        for place in 0..<16 {
            if [4, 6, 8, 10].contains(place) { text += "-" }
            let byte = bytes[place]
            text += (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
        return text
    }
}
