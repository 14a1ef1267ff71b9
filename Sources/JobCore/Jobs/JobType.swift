/// What kind of work a job is. A daemon can have types of its own besides the three that are named here.
public struct JobType: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// As it stands in settings, the history and the events.
    public let rawValue: String

    /// Any name: what it means is the daemon's business.
    public init(rawValue: String) { self.rawValue = rawValue }

    /// An account's wish is carried out; its levels are `add`, `modify` and `delete`.
    public static let provisioning = JobType(rawValue: "Provisioning")
    /// Snapshots are made; its levels are `hourly` to `yearly`.
    public static let backup = JobType(rawValue: "Backup")
    /// A user's script is run (row L1).
    public static let admin = JobType(rawValue: "Admin")

    /// The name.
    public var description: String { rawValue }
}
