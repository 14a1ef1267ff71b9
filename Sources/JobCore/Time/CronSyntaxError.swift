/// What is wrong with a schedule in cron notation.
public struct CronSyntaxError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The field, such as `hour`; nil when the schedule as a whole is wrong.
    public let field: String?
    /// The character at which the fault begins, counted from 1.
    public let position: Int
    /// What is wrong.
    public let reason: String
    /// What to write instead.
    public let cure: String

    /// `hour (character 3): there is no hour 24`, without the cure.
    public var summary: String { "\(field.map { "\($0) " } ?? "")(character \(position)): \(reason)" }

    /// The summary and the cure.
    public var description: String { "\(summary); \(cure)" }
}
