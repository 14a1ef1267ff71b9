public import Logging

/// Marks a metadata value that no log handler may show.
public enum LogSecrecy: Int64, Sendable, Logger.MetadataValueAttributes.Attribute {
    case secret = 1
}

extension Logger.MetadataValue {
    /// A value that the handlers of this module write as `(secret)`.
    public static func secret(_ value: some CustomStringConvertible & Sendable) -> Self {
        .attributed(value, attributes: [LogSecrecy.secret])
    }
}
