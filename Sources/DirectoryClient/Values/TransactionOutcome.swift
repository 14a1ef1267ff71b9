public import DirectoryModel

/// One change within a transaction: a modify of one entry.
public struct TransactionMember: Hashable, Sendable {
    /// The entry that is changed.
    public var dn: DN
    /// In their order; all or none.
    public var modifications: [Modification]
    /// Must match the entry as it is (RFC 4528); nil: there is no such condition.
    public var assertion: Filter?

    /// A change.
    public init(_ dn: DN, _ modifications: [Modification], asserting assertion: Filter? = nil) {
        self.dn = dn
        self.modifications = modifications
        self.assertion = assertion
    }
}

/// What became of a transaction (RFC 5805): all of it or nothing.
public enum TransactionOutcome: Hashable, Sendable {
    /// Every member has been carried out.
    case committed
    /// Nothing has been changed.
    /// - `member`: the place of the one that the server refused; nil when it named none, and refused the whole.
    case refused(member: Int?, DirectoryError)
}
