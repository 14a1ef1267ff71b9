public import DirectoryModel
public import JobCore

extension JobSubject {
    /// An account, for jobs of every type.
    public init(_ account: EntryUUID) { self.init(account.description) }

    /// What entries name by a value of an attribute, such as a home. An entry can be removed and added again, and what it names stays: so a job holds
    /// the name as well as the entry.
    /// - Parameter value: compared as `caseIgnoreMatch` does (RFC 4517, section 4.2.11).
    init(_ attribute: AttributeName, _ value: String) { self.init("\(attribute) \(value.caseIgnoreFolded)") }
}
