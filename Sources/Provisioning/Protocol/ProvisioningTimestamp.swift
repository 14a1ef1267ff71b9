public import JobCore

/// The value of the state attribute when the work is done: `YYYYMMDDThhmmssZ`, in UTC.
public struct ProvisioningTimestamp: Hashable, Sendable, CustomStringConvertible {
    /// The fifteen characters and the `Z`.
    public let description: String
    /// The moment; of a day or an hour that does not exist, the one that the calendar goes on to.
    public let time: WallTime

    /// Reads `YYYYMMDDThhmmssZ`; nil for anything else.
    public init?(parsing text: String) {
        guard let time = WallTime(timestamp: text) else { return nil }
        (description, self.time) = (text, time)
    }

    /// - Parameter time: fractions of a second are cut off.
    public init(_ time: WallTime) {
        description = time.timestamp
        self.time = WallTime(secondsSince1970: time.secondsSince1970)
    }
}
