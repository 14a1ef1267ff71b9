public import DirectoryModel

/// Why an account gets no backup of a level: not a fault of the backup, but of what was asked for or of how the account stands.
public struct BackupRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    /// The account as it was named, or its uid.
    public var account: String
    /// The entry, where there is one.
    public var dn: DN?
    /// What stands in the way.
    public var reason: String
    /// What mends it.
    public var cure: String

    /// Account, reason and cure in one line.
    public var description: String { "\(dn.map { "\($0)" } ?? "account \(account)"): \(reason); \(cure)" }
}

/// Some of the accounts that were named get no backup, so none was asked for.
public struct BackupRefusals: Error, Hashable, Sendable, CustomStringConvertible {
    /// One for each of these accounts, in the order in which they were named.
    public var refusals: [BackupRefusal]

    /// One line for each.
    public var description: String { refusals.map(\.description).joined(separator: "\n") }
}
