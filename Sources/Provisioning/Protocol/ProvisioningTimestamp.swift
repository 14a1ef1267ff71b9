import Glibc
public import JobCore

/// The value of the state attribute when the work is done: `YYYYMMDDThhmmssZ`, in UTC.
public struct ProvisioningTimestamp: Hashable, Sendable, CustomStringConvertible {
    /// The fifteen characters and the `Z`.
    public let description: String

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

    /// The time that such a text stands for; nil for any other text.
    public static func time(of text: String) -> WallTime? {
        guard let match = text.wholeMatch(of: #/([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z/#) else {
            return nil
        }
        let (_, year, month, day, hour, minute, second) = match.output
        var broken = tm()
        broken.tm_year = (Int32(year) ?? 0) - 1900
        broken.tm_mon = (Int32(month) ?? 0) - 1
        broken.tm_mday = Int32(day) ?? 0
        broken.tm_hour = Int32(hour) ?? 0
        broken.tm_min = Int32(minute) ?? 0
        broken.tm_sec = Int32(second) ?? 0
        return WallTime(secondsSince1970: Int64(timegm(&broken)))
    }
}
