import Glibc
public import JobCore

/// The value of the state attribute when the work is done: `YYYYMMDDThhmmssZ`, in UTC.
public struct ProvisioningTimestamp: Hashable, Sendable, CustomStringConvertible {
    /// The fifteen characters and the `Z`.
    public let description: String

    /// Reads `YYYYMMDDThhmmssZ`; nil for anything else.
    public init?(parsing text: String) {
        let signs = Array(text.utf8)
        guard signs.count == 16, signs[8] == UInt8(ascii: "T"), signs[15] == UInt8(ascii: "Z"),
            signs.indices.allSatisfy({ $0 == 8 || $0 == 15 || 0x30...0x39 ~= signs[$0] })
        else { return nil }
        description = text
    }

    /// The moment; of a day or an hour that does not exist, the one that the calendar goes on to.
    public var time: WallTime {
        let digits = description.utf8.compactMap { 0x30...0x39 ~= $0 ? Int32($0) - 0x30 : nil }
        func number(_ range: Range<Int>) -> Int32 { digits[range].reduce(0) { $0 * 10 + $1 } }
        var broken = tm()
        broken.tm_year = number(0..<4) - 1900
        broken.tm_mon = number(4..<6) - 1
        broken.tm_mday = number(6..<8)
        broken.tm_hour = number(8..<10)
        broken.tm_min = number(10..<12)
        broken.tm_sec = number(12..<14)
        return WallTime(secondsSince1970: Int64(timegm(&broken)))
    }

    /// - Parameter time: fractions of a second are cut off.
    public init(_ time: WallTime) {
        var seconds = time_t(time.secondsSince1970)
        var broken = tm()
        gmtime_r(&seconds, &broken)
        func digits(_ number: Int32, _ width: Int) -> String {
            let text = String(number)
            return String(repeating: "0", count: max(0, width - text.utf8.count)) + text
        }
        description =
            digits(broken.tm_year + 1900, 4) + digits(broken.tm_mon + 1, 2) + digits(broken.tm_mday, 2) + "T"
            + digits(broken.tm_hour, 2) + digits(broken.tm_min, 2) + digits(broken.tm_sec, 2) + "Z"
    }
}
